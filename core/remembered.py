"""What this device remembers of works it no longer holds, so that a duplicate can be answered with what is known.

Three memories, each bounded in number and in age, and the age exceeds every retry: keys that were handed to us, the
highest attempt seen of each work, and the works known to have ended.
"""

from collections import OrderedDict
from typing import Optional, Tuple

from pamdi.core.context import Context
from pamdi.core.work import Key, WorkId


class Remembered:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys: "OrderedDict[Key, Tuple[float, str, bool]]" = OrderedDict()
        self._attempts: "OrderedDict[WorkId, Tuple[float, int]]" = OrderedDict()
        self._ended: "OrderedDict[WorkId, float]" = OrderedDict()

    def took(self, key: Key, peer: str) -> None:
        """``peer`` handed us ``key``."""
        self._keys[key] = (self._context.now, peer, False)
        self._keys.move_to_end(key)
        attempt = self.attempt(key.work)
        self._attempts[key.work] = (self._context.now, max(key.attempt, attempt))
        self._attempts.move_to_end(key.work)
        self._trim()

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
        entry = self._keys.get(key)
        return None if entry is None else entry[2]

    def from_peer(self, peer: str) -> Tuple[Tuple[Key, bool], ...]:
        """Every key that ``peer`` handed us, with whether we have passed it on."""
        return tuple((key, passed) for key, (_, whom, passed) in self._keys.items() if whom == peer)

    def attempt(self, work: WorkId) -> int:
        entry = self._attempts.get(work)
        return entry[1] if entry else 0

    def raise_attempt(self, work: WorkId, attempt: int) -> None:
        if attempt > self.attempt(work):
            self._attempts[work] = (self._context.now, attempt)
            self._attempts.move_to_end(work)
            self._trim()

    def end(self, work: WorkId) -> None:
        self._ended[work] = self._context.now
        self._ended.move_to_end(work)
        self._trim()

    def has_ended(self, work: WorkId) -> bool:
        return work in self._ended

    def forget_end(self, work: WorkId) -> None:
        """The head has forgotten the work, or admits the id anew: it may come again."""
        self._ended.pop(work, None)
        self._attempts.pop(work, None)

    def _trim(self) -> None:
        limits, now = self._context.limits, self._context.now
        while self._keys and (
            len(self._keys) > limits.known_keys_max or next(iter(self._keys.values()))[0] < now - limits.known_s
        ):
            self._keys.popitem(last=False)
        while self._attempts and (
            len(self._attempts) > limits.known_keys_max or next(iter(self._attempts.values()))[0] < now - limits.known_s
        ):
            self._attempts.popitem(last=False)
        while self._ended and (
            len(self._ended) > limits.known_keys_max or next(iter(self._ended.values())) < now - limits.known_s
        ):
            self._ended.popitem(last=False)
