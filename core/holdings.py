"""The works whose tensors are on this device, and in which place each is.

A :class:`Held` is one work at one boundary. Its place says who must act next:

    seeking    nobody has been asked yet, or nobody could take it
    asking     an RTC is in the air, or granted, while the tensor waits for its CTC
    queued     waits for this device's executor
    running    is in the executor
    sent       its tensor is on the way to ``peer``, not yet taken
    backup     ``peer`` has taken it; kept until it is passed on
    answering  its answer is on the way to the head

A device that takes a work owes its sender one PassedOn; ``upstream`` remembers to whom and under which key, through
all segments that run here.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from pamdi.core.context import Context
from pamdi.core.work import Key, Visit, Work, WorkId

# Places in which a work still needs this device; the others only keep a copy for somebody else's sake.
ACTIVE = frozenset({"seeking", "asking", "queued", "running"})


class Upstream(NamedTuple):
    """Who handed us a work, and under which key."""

    peer: str
    key: Key


class Held:
    """One work here. Instants are in the caller's clock (``since``: in this place; ``arrived``: ready for its
    next segment); sizes in bytes."""

    __slots__ = (
        "age_s_max", "arrived", "born", "continuing", "due", "error", "head", "key", "model", "nbytes", "path",
        "payload", "peer", "place", "resent", "since", "transfer_s", "upstream", "urgency",
    )  # fmt: skip

    def __init__(self, work: Work, payload: Any, nbytes: int, now: float) -> None:
        self.key = work.key
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
        self.error = ""

    def header(self, now: float) -> Work:
        """The header under which this work leaves at ``now``."""
        left = None if self.due is None else self.due - now
        return Work(
            self.key, self.model, self.head, self.urgency, now - self.born, left, self.age_s_max, self.path, self.resent
        )


class Holdings:
    """All of them, by key and by work. Bounded by those who add: admission, reservations, backups."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._by_key: Dict[Key, Held] = {}
        self._by_work: Dict[WorkId, Set[Key]] = {}
        self.backup_bytes = 0

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: Key) -> bool:
        return key in self._by_key

    def get(self, key: Key) -> Optional[Held]:
        return self._by_key.get(key)

    def of(self, work: WorkId) -> List[Held]:
        return [self._by_key[key] for key in sorted(self._by_work.get(work, ()))]

    def all(self) -> Iterator[Held]:
        return iter(list(self._by_key.values()))

    def active(self) -> int:
        return sum(held.place in ACTIVE or held.place in ("sent", "answering") for held in self._by_key.values())

    def add(self, held: Held) -> None:
        assert held.key not in self._by_key, held.key
        self._by_key[held.key] = held
        self._by_work.setdefault(held.key.work, set()).add(held.key)

    def remove(self, held: Held) -> None:
        if held.place == "backup":
            self.backup_bytes -= held.nbytes
        del self._by_key[held.key]
        keys = self._by_work[held.key.work]
        keys.discard(held.key)
        if not keys:
            del self._by_work[held.key.work]

    def rekey(self, held: Held, key: Key) -> None:
        """The work has moved to another boundary while it stayed here."""
        self.remove(held)
        held.key = key
        self.add(held)

    def keep_as_backup(self, held: Held) -> List[Held]:
        """``held`` was taken by its peer: keep it, and return what must go to stay within the bound, oldest first."""
        held.place = "backup"
        held.since = self._context.now
        self.backup_bytes += held.nbytes
        dropped: List[Held] = []
        if self.backup_bytes > self._context.limits.backup_bytes_max:
            backups = sorted((h for h in self._by_key.values() if h.place == "backup"), key=lambda h: h.since)
            for oldest in backups:
                if self.backup_bytes <= self._context.limits.backup_bytes_max:
                    break
                self.remove(oldest)
                dropped.append(oldest)
        return dropped

    def leave_backup(self, held: Held, place: str) -> None:
        """A backup becomes active again: its receiver is lost."""
        if held.place == "backup":
            self.backup_bytes -= held.nbytes
        held.place = place
