"""A work as its head knows it: what was asked, how far it has come, and what its end was."""

from typing import Any, Optional, Set, Tuple

from pamdi.core.work import Visit, WorkId
from pamdi.core.work_life import WORK


class Admitted:
    """A work at its head, from submission until it is forgotten. Instants in the caller's clock.
    ``attempt_restored``: the attempt it was at when this life of the head began; earlier ones are not held against
    its devices. ``tell``: who should hear that it has ended."""

    __slots__ = (
        "attempt", "attempt_restored", "born", "cancelled", "detail", "digest", "due", "gamma", "latency_s", "nbytes",
        "path", "payload", "reason", "retried", "state", "status", "tell", "work",
    )  # fmt: skip

    def __init__(self, work: WorkId, digest: str, payload: Any, nbytes: int, born: float) -> None:
        self.work = work
        self.digest = digest
        self.payload = payload
        self.nbytes = nbytes
        self.born = born
        self.state = WORK.initial
        self.gamma: Optional[float] = None
        self.due: Optional[float] = None
        self.cancelled = False
        self.attempt = self.attempt_restored = 0
        self.retried = 0
        self.status = self.reason = self.detail = ""
        self.latency_s = 0.0
        self.path: Tuple[Visit, ...] = ()
        self.tell: Set[str] = set()

    @property
    def losses(self) -> int:
        """How often it was started anew in this life of its head."""
        return self.attempt - self.attempt_restored

    def step(self, event: str) -> None:
        self.state = WORK.step(self.state, event)
