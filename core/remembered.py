"""What this device remembers of works it no longer holds, so that a duplicate can be answered with what is known.

Three memories, each bounded in number and in age, and the age exceeds every retry (``Limits`` refuses settings in
which it does not): keys that were handed to us, the highest attempt seen of each work, and the works known to have
ended. What is too old counts as forgotten even while it is still stored: an id whose head has forgotten it may come
anew, and must find nobody who thinks that it has ended.
"""

from collections import OrderedDict
from typing import Any, Optional, Tuple

from pamdi.core.context import Context
from pamdi.core.work import Key, WorkId


class Remembered:
    """Every entry begins with the instant at which it was last told."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys: "OrderedDict[Key, Tuple[float, str, bool]]" = OrderedDict()
        self._attempts: "OrderedDict[WorkId, Tuple[float, int]]" = OrderedDict()
        self._ended: "OrderedDict[WorkId, Tuple[float]]" = OrderedDict()

    def __len__(self) -> int:
        return max(len(self._keys), len(self._attempts), len(self._ended))

    def took(self, key: Key, peer: str) -> None:
        """``peer`` handed us ``key``."""
        self._put(self._keys, key, (self._context.now, peer, False))
        self._put(self._attempts, key.work, (self._context.now, max(key.attempt, self.attempt(key.work))))

    def passed(self, key: Key) -> None:
        """What came to us under ``key`` has been taken by the next device."""
        entry = self._keys.get(key)
        if entry is not None:
            self._keys[key] = (entry[0], entry[1], True)

    def lost(self, key: Key) -> None:
        """We gave the work up: should it come again, it is welcome."""
        self._keys.pop(key, None)

    def has_passed(self, key: Key) -> Optional[bool]:
        """None: never seen. False: taken and not passed on. True: passed on."""
        entry = self._fresh(self._keys.get(key))
        return None if entry is None else entry[2]

    def from_peer(self, peer: str) -> Tuple[Tuple[Key, bool], ...]:
        """Every key that ``peer`` handed us and that has not ended, with whether we have passed it on."""
        return tuple(
            (key, passed)
            for key, (_, whom, passed) in self._keys.items()
            if whom == peer and not self.has_ended(key.work)
        )

    def attempt(self, work: WorkId) -> int:
        entry = self._fresh(self._attempts.get(work))
        return entry[1] if entry else 0

    def raise_attempt(self, work: WorkId, attempt: int) -> None:
        if attempt > self.attempt(work):
            self._put(self._attempts, work, (self._context.now, attempt))

    def end(self, work: WorkId) -> None:
        self._put(self._ended, work, (self._context.now,))

    def has_ended(self, work: WorkId) -> bool:
        return self._fresh(self._ended.get(work)) is not None

    def _fresh(self, entry: Any) -> Any:
        return entry if entry is not None and entry[0] >= self._context.now - self._context.limits.known_s else None

    def _put(self, memory: "OrderedDict[Any, Any]", name: Any, entry: Any) -> None:
        memory[name] = entry
        memory.move_to_end(name)
        limits = self._context.limits
        too_old = self._context.now - limits.known_s
        while len(memory) > limits.known_keys_max or next(iter(memory.values()))[0] < too_old:
            memory.popitem(last=False)
