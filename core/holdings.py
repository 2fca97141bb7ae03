"""The works whose tensors are on this device, and in which place each is.

A :class:`Held` is one work at one boundary. Its place says who must act next:

    seeking    nobody has been asked yet, or nobody could take it
    asking     an RTC is in the air, or granted, while the tensor waits for its CTC
    queued     waits for this device's executor
    running    is in the executor
    sent       its tensor is on the way to ``peer``, not yet taken
    backup     ``peer`` has taken it; kept until it is passed on
    answering  its answer is on the way to the head, kept until the head says that the work has ended
    gone       no longer here, though somebody may still have it in hand until the event has been handled

Backups and answers are *kept* for somebody else's sake: bounded in bytes together, the oldest goes first, because the
head's input is the guarantee. ``Holdings.move`` is the only way from place to place, so that what is counted by place
stays true.

A device that takes a work owes its sender one PassedOn; ``upstream`` remembers to whom and under which key, through
all segments that run here.
"""

from collections import OrderedDict
from typing import Any, Callable, Dict, List, Optional, Tuple

import msgspec

from pamdi.core.context import Context
from pamdi.core.policy import Waiting
from pamdi.core.work import Key, Visit, Work, WorkId

KEPT = frozenset({"backup", "answering"})
COUNTED = KEPT | {"sent"}  # places whose bytes are counted


class Upstream(msgspec.Struct, frozen=True, gc=False):
    """Who handed us a work, and under which key."""

    peer: str
    key: Key


class Held:
    """One work here. Instants are in the caller's clock (``since``: in this place; ``arrived``: ready for its
    next segment); sizes in bytes. ``failed_here``: its next segment could not run on this device. ``klass``: the class
    in which it was queued here; ``view``: what a policy sees of it there, once asked. ``timed``: whether a moment is
    set at which somebody must look at it. ``deaths``: of devices to which its tensor was on the way from here."""

    __slots__ = (
        "age_s_max", "arrived", "born", "continuing", "deaths", "due", "error", "failed_here", "head", "key", "klass",
        "model", "nbytes", "path", "payload", "peer", "place", "resent", "since", "timed", "transfer_s", "upstream",
        "urgency", "view", "work",
    )  # fmt: skip

    def __init__(self, work: Work, payload: Any, nbytes: int, now: float) -> None:
        self.key = work.key
        self.work = work.key.work
        self.model = work.model
        self.head = work.head
        self.urgency = work.urgency
        self.age_s_max = work.age_s_max
        self.born = now - work.age_s
        self.due = None if work.left_s is None else now + work.left_s
        self.path: Tuple[Visit, ...] = work.path
        self.resent = work.resent
        self.payload = payload
        self.nbytes = nbytes
        self.place = "seeking"
        self.peer = ""
        self.since = now
        self.arrived = now
        self.transfer_s = 0.0
        self.upstream: Optional[Upstream] = None
        self.continuing = False
        self.failed_here = False
        self.klass = work.urgency
        self.error = ""
        self.view: Optional[Waiting] = None
        self.timed = False
        self.deaths = 0

    def header(self, now: float) -> Work:
        """The header under which this work leaves at ``now``."""
        left = None if self.due is None else self.due - now
        return Work(
            self.key, self.model, self.head, self.urgency, now - self.born, left, self.age_s_max, self.path, self.resent
        )


class Holdings:
    """All of them, by key and by work. Bounded by those who add: admission, reservations, what may be kept."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._by_key: Dict[Key, Held] = {}
        self._by_work: Dict[WorkId, List[Held]] = {}
        self._kept: "OrderedDict[Key, Held]" = OrderedDict()
        self._sent_bytes: Dict[Tuple[str, float], int] = {}
        self.kept_bytes = 0
        self.watch: Callable[[Held], None] = lambda held: None  # called when one has moved
        self.unwatch: Callable[[Held], None] = lambda held: None

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: Key) -> bool:
        return key in self._by_key

    def get(self, key: Key) -> Optional[Held]:
        return self._by_key.get(key)

    def of(self, work: WorkId) -> List[Held]:
        """In the order of their keys."""
        works = self._by_work.get(work)
        return [] if works is None else sorted(works, key=lambda held: held.key)

    def all(self) -> List[Held]:
        return list(self._by_key.values())

    def with_peer(self, peer: str, place: str) -> List[Held]:
        return [held for held in self._by_key.values() if held.place == place and held.peer == peer]

    def unfinished(self) -> int:
        """How many are here for more than somebody else's safety: a device that stops waits for these."""
        return sum(held.place != "backup" for held in self._by_key.values())

    def sent_bytes(self, peer: str, urgency: float = 0.0) -> int:
        """Bytes that are on the way to ``peer`` and not yet taken there, of works of this urgency or a higher one."""
        return sum(n for (whom, other), n in self._sent_bytes.items() if whom == peer and other >= urgency)

    def add(self, held: Held) -> None:
        self._index(held)
        self._enter(held)
        self.watch(held)

    def remove(self, held: Held) -> None:
        self.unwatch(held)
        self._leave(held)
        self._unindex(held)
        held.place = "gone"

    def rekey(self, held: Held, key: Key) -> None:
        """The work has moved to another boundary while it stayed here."""
        assert key not in self._by_key and held.place not in COUNTED, (key, held.place)
        del self._by_key[held.key]
        self._by_key[key] = held
        held.key = key

    def move(self, held: Held, place: str, peer: str = "") -> None:
        """``held`` is in ``place`` from now on, ``peer`` being the other party, if there is one."""
        if held.place in COUNTED:
            self._leave(held)
        held.place, held.peer, held.since = place, peer, self._context.now
        if place in COUNTED:
            self._enter(held)
        if place != "seeking":  # most works seek for an instant only: ``placing`` has those watched that go on seeking
            self.watch(held)

    def trim(self) -> List[Held]:
        """Let go of the longest kept until the rest is within ``backup_bytes_max``. Returns those that went."""
        dropped: List[Held] = []
        while self.kept_bytes > self._context.limits.backup_bytes_max:
            dropped.append(next(iter(self._kept.values())))
            self.remove(dropped[-1])
        return dropped

    def _index(self, held: Held) -> None:
        assert held.key not in self._by_key, held.key
        self._by_key[held.key] = held
        self._by_work.setdefault(held.work, []).append(held)

    def _unindex(self, held: Held) -> None:
        del self._by_key[held.key]
        others = self._by_work[held.work]
        others.remove(held)
        if not others:
            del self._by_work[held.work]

    def _enter(self, held: Held) -> None:
        if held.place in KEPT:
            self._kept[held.key] = held
            self.kept_bytes += held.nbytes
        elif held.place == "sent":
            to = (held.peer, held.urgency)
            self._sent_bytes[to] = self._sent_bytes.get(to, 0) + held.nbytes

    def _leave(self, held: Held) -> None:
        if held.place in KEPT:
            del self._kept[held.key]
            self.kept_bytes -= held.nbytes
        elif held.place == "sent":
            to = (held.peer, held.urgency)
            left = self._sent_bytes.pop(to, 0) - held.nbytes
            if left > 0:
                self._sent_bytes[to] = left
