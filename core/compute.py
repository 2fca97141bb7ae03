"""This device's executor as the core sees it: a queue by class, and at most one segment in the air.

A started segment is not interrupted; its length is the bound on what a more urgent work waits for here. Between two
segments of one work every queued work may go first, and a work that goes on where it is comes before others of its
class, so that a run is not re-queued at the tail.
"""

from typing import Callable, Dict, FrozenSet, List, Optional

from pamdi.core.context import Context
from pamdi.core.holdings import Held, Holdings
from pamdi.core.instructions import Infer
from pamdi.core.policy import Waiting
from pamdi.core.segment import Segment
from pamdi.core.slots import Slots
from pamdi.core.tally import Tally
from pamdi.core.work import Key


def waiting(held: Held, urgency: float) -> Waiting:
    """``held`` as a policy sees it."""
    return Waiting(
        held.key.source, held.key.id, held.head, held.key.boundary, urgency, held.born, held.continuing
    )  # fmt: skip


class Compute:
    """``outputs_full(held, segment)`` says whether too many results of ``segment`` still wait to leave."""

    def __init__(
        self,
        context: Context,
        holdings: Holdings,
        slots: Slots,
        klass: Callable[[Held], float],
        outputs_full: Callable[[Held, Segment], bool],
    ) -> None:
        self._context = context
        self._holdings = holdings
        self._slots = slots
        self._klass = klass
        self._outputs_full = outputs_full
        self._queue: Dict[Key, Held] = {}
        self.tally = Tally(slots)
        self.running: Optional[Held] = None
        self.segment: Optional[Segment] = None
        self.started_at = 0.0

    def __len__(self) -> int:
        return len(self._queue)

    def queued(self) -> List[Held]:
        return list(self._queue.values())

    def enqueue(self, held: Held) -> None:
        self._holdings.move(held, "queued")
        self._queue[held.key] = held
        held.klass = self._klass(held)
        self.tally.add(held.klass, held.model, held.key.boundary)
        self._context.here += 1

    def drop(self, held: Held) -> None:
        if self._queue.get(held.key) is held:
            self._take_out(held)

    def reclass(self) -> None:
        """Classes may have changed: a work has become too old, or the policy is another."""
        for held in self._queue.values():
            self.tally.remove(held.klass, held.model, held.key.boundary)
            held.klass = self._klass(held)
            self.tally.add(held.klass, held.model, held.key.boundary)
        if self.running is not None:
            self.running.klass = self._klass(self.running)
        self._context.here += 1

    def idle(self) -> bool:
        return self.running is None and not self._queue

    def start_next(self) -> Optional[Held]:
        """Start the first work of the queue that can start. Returns it, or None."""
        if self.running is not None or not self._queue:
            return None
        now, rank = self._context.now, self._context.policy.rank
        able = []
        for held in self._queue.values():
            segment = self._slots.can_still_run(held.model, held.key.boundary)
            if segment is not None:
                able.append((rank(waiting(held, held.klass), now), held.key, held, segment))
        able.sort()  # keys differ, so it never comes to comparing works
        for _, _, held, segment in able:
            if not self._outputs_full(held, segment):
                self._start(held, segment)
                return held
        return None

    def finish(self) -> Optional[Held]:
        held, self.running, self.segment = self.running, None, None
        self._context.here += 1
        return held

    def stranded(self) -> List[Held]:
        """Queued works whose segment is no longer here."""
        return [h for h in self._queue.values() if self._slots.can_still_run(h.model, h.key.boundary) is None]

    def in_use(self) -> FrozenSet[Segment]:
        """Segments that a queued or running work needs."""
        used = {self._slots.can_still_run(held.model, held.key.boundary) for held in self._queue.values()}
        used.add(self.segment)
        return frozenset(segment for segment in used if segment is not None)

    def running_s(self) -> float:
        """Seconds left of the segment in the air, by its calibrated time."""
        if self.segment is None:
            return 0.0
        return max(0.0, self._slots.seconds(self.segment) - (self._context.now - self.started_at))

    def _start(self, held: Held, segment: Segment) -> None:
        self._take_out(held)
        self._holdings.move(held, "running")
        self.running, self.segment, self.started_at = held, segment, self._context.now
        self._context.emit(Infer(held.key, segment, held.payload, held.klass))

    def _take_out(self, held: Held) -> None:
        del self._queue[held.key]
        self.tally.remove(held.klass, held.model, held.key.boundary)
        self._context.here += 1
