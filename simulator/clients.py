"""Those who submit: one client per source, its arrivals, and what it has seen of each id.

A client keeps a work until ``admitted`` and submits it again while nobody says so; from then on the fleet alone must
bring it to its end, which is a stronger promise than the product's client relies on. It also is the witness: every end
that is published is compared with the first one of its id.
"""

from typing import Any, Callable, Dict, Iterator, List, Optional

import msgspec

from pamdi.client.figures import Outcome, SourceFigures, source_figures
from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core.allocation import SourceSpec
from pamdi.core.work import WorkId
from pamdi.simulator.arrivals import instants
from pamdi.simulator.heap import Heap
from pamdi.simulator.scenario import ArrivalsEntry

ADMIT_S = 2.0  # without a word for so long, a submission is repeated; as the product's client does


class Piece(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What stands for a tensor: its size, and which boundary of which work it is."""

    nbytes: int
    work: WorkId
    boundary: int


class Record:
    """One submitted work. ``end``: the first end that was published for it."""

    __slots__ = ("admitted", "end", "ended_at", "submitted_at", "work")

    def __init__(self, work: WorkId, at: float) -> None:
        self.work, self.submitted_at = work, at
        self.admitted = False
        self.ended_at: Optional[float] = None
        self.end: Optional[ins.PublishResult] = None


class Client:
    """``submit(event)`` brings a submission to the head. ``patient``: repeat what nobody has admitted."""

    def __init__(
        self, heap: Heap, source: SourceSpec, arrivals: ArrivalsEntry, seed: int, zero: float, nbytes: int,
        submit: Callable[["Client", ev.Submitted], None], patient: bool,
    ) -> None:  # fmt: skip
        self.source = source
        self.records: Dict[str, Record] = {}
        self.open = self.duplicated = self.redelivered = 0
        self.made_all = False
        self._heap, self._arrivals, self._zero, self._nbytes = heap, arrivals, zero, nbytes
        self._submit, self._patient = submit, patient
        self._instants: Iterator[float] = iter(())
        self._seed = seed

    def begin(self) -> None:
        entry = self._arrivals
        if entry.kind == "backlog":
            self._heap.put(self._zero + entry.start_s, self._fill)
            return
        rate_hz = entry.rate_hz if entry.rate_hz is not None else self.source.rate_hz
        self._instants = instants(self._seed, self.source.id, entry.kind, rate_hz, entry.count, entry.start_s)
        self._arm()

    def done(self) -> bool:
        return self.made_all and self.open == 0

    def heard(self, result: ins.PublishResult) -> None:
        """A result on the source's topic."""
        record = self.records[result.work.id]
        if result.status == "admitted":
            record.admitted = True
        elif record.end is None:
            record.end, record.ended_at = result, self._heap.now
            self.open -= 1
            if self._arrivals.kind == "backlog":
                self._fill()
        elif result.status != "refused":
            same = _print_of(record.end) == _print_of(result)
            self.redelivered += same
            self.duplicated += not same

    def figures(self) -> SourceFigures:
        outcomes = [self._outcome(record) for record in self.records.values()]
        return source_figures(outcomes, self.duplicated, self.redelivered)

    def unended(self) -> List[Record]:
        return [record for record in self.records.values() if record.end is None]

    def _outcome(self, record: Record) -> Outcome:
        end = record.end
        if end is None:
            return Outcome(self.source.id, record.work.id, record.submitted_at, None, "")
        return Outcome(
            self.source.id, record.work.id, record.submitted_at, record.ended_at, end.status, end.reason,
            exact=True, replayed=end.replayed, retried=end.retried,
        )  # fmt: skip

    def _arm(self) -> None:
        at = next(self._instants, None)
        if at is None:
            self.made_all = True
        else:
            self._heap.put(self._zero + at, self._arrive)

    def _arrive(self, _: Any) -> None:
        self._new()
        self._arm()

    def _fill(self, _: Any = None) -> None:
        """Kind backlog: as many works as the window lets be open."""
        count = self._arrivals.count
        while self.open < self._arrivals.window and not self.made_all:
            if count is not None and len(self.records) >= count:
                self.made_all = True
            else:
                self._new()

    def _new(self) -> None:
        work = WorkId(self.source.id, str(len(self.records)))
        record = self.records[work.id] = Record(work, self._heap.now)
        self.open += 1
        self._say(record)

    def _say(self, record: Record) -> None:
        if record.admitted or record.end is not None:
            return
        work = record.work
        self._submit(self, ev.Submitted(work, work.id, Piece(self._nbytes, work, 0), self._nbytes))
        if self._patient:
            self._heap.put(self._heap.now + ADMIT_S, self._say, record)


def _print_of(end: ins.PublishResult) -> Any:
    return end.status, end.reason, end.latency_s, end.path, end.payload
