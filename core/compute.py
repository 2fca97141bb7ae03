"""This device's executor as the core sees it: a queue by class, and at most one segment in the air, for one work or,
where its engine and its calibration say that this shortens the queue, for several as one batch (``batching``).

A started segment is not interrupted; its length is the bound on what a more urgent work waits for here. Between two
segments of one work every queued work may go first, and a work that goes on where it is comes before others of its
class, so that a run is not re-queued at the tail.
"""

from typing import Any, Callable, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from pamdi.core.context import Context
from pamdi.core.holdings import Held, Holdings
from pamdi.core.instructions import Infer, InferTogether, Part
from pamdi.core.policy import Waiting
from pamdi.core.segment import Segment
from pamdi.core.slots import Slots
from pamdi.core.tally import Tally
from pamdi.core.work import Key

Able = Sequence[Tuple[Held, Segment]]


class Upcoming(NamedTuple):
    """A piece that is likely to be started next: its works' payloads, in order."""

    segment: Segment
    payloads: Tuple[Any, ...]


def waiting(held: Held, urgency: float) -> Waiting:
    """``held`` as a policy sees it."""
    return Waiting(
        held.key.source, held.key.id, held.head, held.key.boundary, urgency, held.born, held.continuing
    )  # fmt: skip


def _view(held: Held) -> Waiting:
    """A queued work as a policy sees it: the same at every comparison, until it leaves or its class changes."""
    if held.view is None:
        held.view = waiting(held, held.klass)
    return held.view


class Compute:
    """``outputs_full(held, segment)`` says whether too many results of ``segment`` still wait to leave, and
    ``outputs_left`` how many more may, where they would be a batch. ``running``: what is in the air, of a batch its
    first; ``batch``: all of it. ``fresh``: whether it was started in this event; ``ran``: how many works the piece
    before it was of."""

    def __init__(
        self,
        context: Context,
        holdings: Holdings,
        slots: Slots,
        klass: Callable[[Held], float],
        outputs_full: Callable[[Held, Segment], bool],
        outputs_left: Callable[[Held, Segment], int],
    ) -> None:
        self._context = context
        self._holdings = holdings
        self._slots = slots
        self._klass = klass
        self._outputs_full = outputs_full
        self._outputs_left = outputs_left
        self._queue: Dict[Key, Held] = {}
        self.tally = Tally(slots)
        self.running: Optional[Held] = None
        self.batch: Tuple[Held, ...] = ()
        self.segment: Optional[Segment] = None
        self.started_at = 0.0
        self.fresh = False
        self.ran = 0

    def __len__(self) -> int:
        return len(self._queue)

    def queued(self) -> List[Held]:
        return list(self._queue.values())

    def enqueue(self, held: Held, klass: float) -> None:
        self._holdings.move(held, "queued")
        self._queue[held.key] = held
        held.klass, held.view = klass, None
        self.tally.add(held.klass, held.model, held.key.boundary)
        self._context.here += 1

    def drop(self, held: Held) -> None:
        if self._queue.get(held.key) is held:
            self._take_out(held)

    def reclass(self) -> None:
        """Classes may have changed: a work has become too old, or the policy is another."""
        for held in self._queue.values():
            self.tally.remove(held.klass, held.model, held.key.boundary)
            held.klass, held.view = self._klass(held), None
            self.tally.add(held.klass, held.model, held.key.boundary)
        for held in self.batch:
            held.klass = self._klass(held)
        self._context.here += 1

    def idle(self) -> bool:
        return self.running is None and not self._queue

    def start_next(self) -> None:
        """Start the first work of the queue that can start."""
        if self.running is not None or not self._queue:
            return
        able = self._able()
        for held, segment in able:
            if not self._outputs_full(held, segment):
                batch = (held, *self._mates(able, held, segment))
                for one in batch:
                    self._take_out(one)
                self._start(batch, segment)
                return

    def go_on(self, held: Held, klass: float, segment: Segment) -> None:
        """``held`` has run here and runs ``segment`` next, with nobody to compare it with: it needs no queue."""
        held.klass = klass
        self._context.here += 1
        self._start((held,), segment)

    def upcoming(self) -> Optional[Upcoming]:
        """What of the queue would go first as things are now. A guess and nothing more: what is in the air may go on
        here before it, a more urgent work may come, or its results may have no room."""
        able = self._able()
        if not able:
            return None
        first, segment = able[0]
        batch = (first, *self._mates(able, first, segment))
        return Upcoming(segment, tuple(held.payload for held in batch))

    def finish(self) -> Tuple[Held, ...]:
        batch, self.batch, self.running, self.segment = self.batch, (), None, None
        self.ran = len(batch)
        self._context.here += 1
        return batch

    def in_use(self) -> FrozenSet[Segment]:
        """Segments that a queued or running work needs."""
        used = {self._slots.can_still_run(held.model, held.key.boundary) for held in self._queue.values()}
        used.add(self.segment)
        return frozenset(segment for segment in used if segment is not None)

    def run_s(self) -> float:
        """Seconds that the segment in the air takes in all, by its calibrated time; 0 while there is none."""
        segment = self.segment
        if segment is None:
            return 0.0
        if len(self.batch) > 1:
            return self._slots.batch_seconds(segment, len(self.batch))
        return self._slots.seconds(segment)

    def running_s(self) -> float:
        """Seconds left of it."""
        if self.segment is None:
            return 0.0
        left_s = self.run_s() - (self._context.now - self.started_at)
        return left_s if left_s > 0.0 else 0.0

    def _able(self) -> Able:
        """Queued works that could start, in their order."""
        able: List[Tuple[Held, Segment]] = []
        for held in self._queue.values():
            segment = self._slots.can_still_run(held.model, held.key.boundary)
            if segment is not None:
                able.append((held, segment))
        if len(able) > 1:
            now, rank = self._context.now, self._context.policy.rank
            able.sort(key=lambda entry: (rank(_view(entry[0]), now), entry[0].key))
        return able

    def _mates(self, able: Able, first: Held, segment: Segment) -> List[Held]:
        """Works that go with ``first`` in one batch: of its segment and class, single inputs, in their order. None
        while a more urgent work waits here."""
        most = self._slots.batch_max(segment)
        if most == 1 or not self._is_single(first):
            return []
        alone = not self._context.policy.batches_beside_urgent
        if alone and any(held.klass > first.klass for held in self._queue.values()):
            return []
        mates = [
            held
            for held, other in able
            if other == segment and held.klass == first.klass and held is not first and self._is_single(held)
        ]
        waiting = min(1 + len(mates), self._outputs_left(first, segment))
        return mates[: self._slots.batch_size(segment, waiting) - 1]

    def _is_single(self, held: Held) -> bool:
        model = self._context.models.get(held.model)
        return model is not None and held.nbytes <= model.bytes[held.key.boundary]

    def _start(self, batch: Tuple[Held, ...], segment: Segment) -> None:
        for held in batch:
            self._holdings.move(held, "running")
        first, self.fresh = batch[0], True
        self.running, self.batch, self.segment, self.started_at = first, batch, segment, self._context.now
        if len(batch) == 1:
            self._context.emit(Infer(first.key, segment, first.payload, first.klass))
        else:
            parts = tuple(Part(held.key, held.payload) for held in batch)
            self._context.emit(InferTogether(segment, parts, first.klass))

    def _take_out(self, held: Held) -> None:
        del self._queue[held.key]
        self.tally.remove(held.klass, held.model, held.key.boundary)
        self._context.here += 1
