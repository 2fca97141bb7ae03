"""The segments this device holds or should hold: one slot each, stepped through ``slot_life``.

The allocation says what is wanted; engines say what became of it. Every change is published, whole, as the device's
allocation state: nobody has to guess.
"""

from typing import Dict, Optional, Tuple

from pamdi.core.allocation import AllocationState, Resident, SlotState
from pamdi.core.batching import Calibrated, batch_size, seconds_of
from pamdi.core.context import Context
from pamdi.core.instructions import Load, PublishAllocation, Unload
from pamdi.core.messages import ReadySegment
from pamdi.core.segment import Segment
from pamdi.core.slot_life import PUBLIC, SLOT


class Slot:
    """One ``segment`` here. ``seconds`` starts at the calibrated time and follows what is measured. ``digest`` is of
    the engine that is here (or was asked for last), ``resident.digest`` of the one that should be. ``batch_max``: see
    EngineLoaded. ``said``: how neighbours hear of it."""

    __slots__ = ("batch_max", "digest", "reason", "resident", "said", "seconds", "segment", "state", "wanted")

    def __init__(self, segment: Segment, resident: Resident) -> None:
        self.segment = segment
        self.resident = resident
        self.seconds = resident.seconds
        self.digest = resident.digest
        self.state = SLOT.initial
        self.reason = ""
        self.wanted = True
        self.batch_max = 1
        self.said: Optional[ReadySegment] = None

    def calibrated(self) -> Calibrated:
        """Seconds by batch, as much slower or faster than calibrated as the segment alone is by now."""
        usual_s = self.resident.seconds
        pace = self.seconds / usual_s if usual_s > 0 else 1.0
        return [(batch, pace * seconds) for batch, seconds in sorted(self.resident.batch_seconds)]


class Slots:
    """``layout`` counts changes of what is ready or draining here."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._slots: Dict[Segment, Slot] = {}
        self._ready: Tuple[Segment, ...] = ()
        self._first: Dict[Tuple[str, int], Slot] = {}
        self._draining: Dict[Tuple[str, int], Slot] = {}
        self._run_s: Dict[Tuple[str, int], float] = {}
        self._said: Optional[Tuple[ReadySegment, ...]] = None
        self._epoch = 0
        self.layout = 0

    def obey(self, epoch: int, residents: Tuple[Resident, ...]) -> None:
        """Want exactly ``residents``. What is no longer wanted drains."""
        self._epoch = epoch
        wanted = {resident.segment: resident for resident in residents}
        for segment in [segment for segment in self._slots if segment not in wanted]:
            self._slots[segment].wanted = False
            self._step(segment, "dropped")
        for segment, resident in wanted.items():
            self._want(segment, resident)
        self._changed()

    def loaded(self, segment: Segment, batch_max: int = 1) -> None:
        if self._refuses(segment, "loaded"):
            return
        slot = self._slots[segment]
        slot.batch_max = batch_max
        self._step(segment, "loaded")
        if slot.wanted and slot.resident.digest != slot.digest:
            self._step(segment, "dropped")  # meanwhile another engine is wanted: drain this one, then load that
        self._changed()

    def failed(self, segment: Segment, reason: str) -> None:
        if self._refuses(segment, "failed"):
            return
        slot = self._slots[segment]
        slot.reason = reason
        self._step(segment, "failed")
        self._context.note("engines_broken", f"{segment} cannot be loaded: {reason}")
        if slot.wanted and slot.resident.digest != slot.digest:
            self._want(segment, slot.resident)
        self._changed()

    def unloaded(self, segment: Segment) -> None:
        if self._refuses(segment, "unloaded"):
            return
        slot = self._slots[segment]
        self._step(segment, "unloaded")
        if slot.wanted:
            self._want(segment, slot.resident)
        self._changed()

    def draining(self) -> bool:
        return bool(self._draining)

    def is_draining(self, model: str, boundary: int) -> bool:
        """Whether only a draining segment starts at ``boundary`` here."""
        return (model, boundary) in self._draining and (model, boundary) not in self._first

    def unload_idle(self, in_use: "frozenset[Segment]") -> None:
        """Let go of draining slots that no work here needs any more."""
        idle = [s for s, slot in self._slots.items() if slot.state == "draining" and s not in in_use]
        for segment in idle:
            self._step(segment, "empty")
            self._context.emit(Unload(segment))
        if idle:
            self._changed()

    def measured(self, segment: Segment, seconds: float) -> None:
        slot = self._slots.get(segment)
        if slot is None or not seconds >= 0:
            return
        before = slot.seconds
        slot.seconds = seconds if before <= 0 else 0.9 * before + 0.1 * seconds
        if slot.seconds == before:
            return
        self._forget_runs(segment)
        if slot.said is not None and slot.said.seconds != round(slot.seconds, 6):
            self._said = slot.said = None
        self._context.here += 1

    def ready_at(self, model: str, boundary: int) -> Optional[Segment]:
        """The ready segment that starts at ``boundary``: the shortest, which leaves most room for urgent works."""
        slot = self._first.get((model, boundary))
        return None if slot is None else slot.segment

    def ready_seconds(self, model: str, boundary: int) -> Optional[float]:
        """Of that segment."""
        slot = self._first.get((model, boundary))
        return None if slot is None else slot.seconds

    def can_still_run(self, model: str, boundary: int) -> Optional[Segment]:
        """Like ready_at, draining slots included: what is queued here may finish."""
        slot = self._first.get((model, boundary)) or self._draining.get((model, boundary))
        return None if slot is None else slot.segment

    def seconds(self, segment: Segment) -> float:
        slot = self._slots.get(segment)
        return slot.seconds if slot is not None else 0.0

    def batch_max(self, segment: Segment) -> int:
        """How many works of ``segment`` could ever run as one batch: 1 where its engine or its calibration has none."""
        slot = self._slots.get(segment)
        return slot.batch_max if slot is not None and slot.resident.batch_seconds else 1

    def batch_ahead(self, model: str, boundary: int) -> int:
        """The largest batch worth waiting for in front of the ready segment at ``boundary``; 0 where there is none."""
        segment = self.ready_at(model, boundary)
        most = self.batch_max(segment) if segment is not None else 1
        return self.batch_size(segment, most) if segment is not None and most > 1 else 0

    def batch_size(self, segment: Segment, waiting: int) -> int:
        """How many of ``waiting`` works to run at once."""
        slot = self._slots[segment]
        stretch_max = self._context.limits.batch_stretch_max
        return batch_size(waiting, slot.batch_max, slot.seconds, slot.calibrated(), stretch_max)

    def batch_seconds(self, segment: Segment, batch: int) -> float:
        slot = self._slots.get(segment)
        return seconds_of(batch, slot.seconds, slot.calibrated()) if slot is not None else 0.0

    def run_seconds(self, model: str, boundary: int) -> float:
        """Seconds of the run of ready segments that begins at ``boundary``: what a newcomer is likely to stay for."""
        total = self._run_s.get((model, boundary))
        if total is None:
            slot = self._first.get((model, boundary))
            total = 0.0 if slot is None else slot.seconds + self.run_seconds(model, slot.segment.stop)
            self._run_s[model, boundary] = total
        return total

    def ready(self) -> Tuple[ReadySegment, ...]:
        """The very same tuple until something in it changes, so that who has read it need not read it again."""
        if self._said is None:
            self._said = tuple([self._say(segment) for segment in self._ready])
        return self._said

    def state(self) -> AllocationState:
        segments = tuple(
            SlotState(s.model, s.first, s.stop, PUBLIC.get(slot.state, slot.state), slot.reason)
            for s, slot in sorted(self._slots.items())
        )
        return AllocationState(self._epoch, segments, self._context.draining)

    def publish(self) -> None:
        self._context.emit(PublishAllocation(self.state()))

    def _forget_runs(self, segment: Segment) -> None:
        """Those that begin at or before ``segment``: the others do not go through it."""
        model, first = segment.model, segment.first
        self._run_s = {(m, u): s for (m, u), s in self._run_s.items() if u > first or m != model}

    def _say(self, segment: Segment) -> ReadySegment:
        slot = self._slots[segment]
        if slot.said is None:
            slot.said = ReadySegment(segment.model, segment.first, segment.stop, round(slot.seconds, 6))
        return slot.said

    def _want(self, segment: Segment, resident: Resident) -> None:
        slot = self._slots.get(segment)
        if slot is None:
            slot = self._slots[segment] = Slot(segment, resident)
        slot.resident, slot.wanted = resident, True
        changed = resident.digest != slot.digest
        if slot.state == "broken" and not changed:
            return  # the same engine would break again; another digest, or dropping it first, gives it a new chance
        if changed and slot.state in ("ready", "draining"):
            self._step(segment, "dropped")  # another engine for the same units: drain, unload, load the new one
            return
        before = slot.state
        self._step(segment, "wanted")
        if before in ("absent", "broken"):
            slot.digest, slot.reason, slot.seconds, slot.said = resident.digest, "", resident.seconds, None
            self._context.emit(Load(segment, resident.digest, resident.memory_bytes))

    def _refuses(self, segment: Segment, event: str) -> bool:
        """A word of the engine's that its slot's table refuses changes nothing; it is counted."""
        slot = self._slots.get(segment)
        refused = slot is None or (slot.state, event) in SLOT.refused
        if refused:
            self._context.note("engine_events_refused", f"{segment} is said to be {event}, which nobody asked for")
        return refused

    def _step(self, segment: Segment, event: str) -> None:
        slot = self._slots[segment]
        slot.state = SLOT.step(slot.state, event)
        if slot.state == "absent" and not slot.wanted:
            del self._slots[segment]

    def _changed(self) -> None:
        ordered = sorted(self._slots)
        self._ready = tuple(segment for segment in ordered if self._slots[segment].state == "ready")
        draining = [segment for segment in ordered if self._slots[segment].state == "draining"]
        self._first = {(segment.model, segment.first): self._slots[segment] for segment in reversed(self._ready)}
        self._draining = {(segment.model, segment.first): self._slots[segment] for segment in reversed(draining)}
        self._run_s, self._said = {}, None
        self.layout += 1
        self._context.here += 1
        self.publish()
