"""The segments this device holds or should hold: one slot each, stepped through ``slot_life``.

The allocation says what is wanted; engines say what became of it. Every change is published, whole, as the device's
allocation state: nobody has to guess.
"""

from typing import Dict, List, Optional, Tuple

from pamdi.core.allocation import AllocationState, Resident, SlotState
from pamdi.core.context import Context
from pamdi.core.instructions import Load, PublishAllocation, Unload
from pamdi.core.messages import ReadySegment
from pamdi.core.segment import Segment
from pamdi.core.slot_life import PUBLIC, SLOT


class Slot:
    """One segment here. ``seconds`` starts at the calibrated time and follows what is measured."""

    __slots__ = ("digest", "reason", "resident", "seconds", "state")

    def __init__(self, resident: Resident) -> None:
        self.resident = resident
        self.seconds = resident.seconds
        self.digest = resident.digest
        self.state = SLOT.initial
        self.reason = ""


class Slots:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._slots: Dict[Segment, Slot] = {}
        self._starting: Dict[Tuple[str, int], List[Segment]] = {}
        self._epoch = 0

    def obey(self, epoch: int, residents: Tuple[Resident, ...]) -> None:
        """Want exactly ``residents``. What is no longer wanted drains."""
        self._epoch = epoch
        wanted = {resident.segment: resident for resident in residents}
        for segment in [segment for segment in self._slots if segment not in wanted]:
            self._step(segment, "dropped")
        for segment, resident in wanted.items():
            self._want(segment, resident)
        self._changed()

    def loaded(self, segment: Segment) -> None:
        self._step(segment, "loaded")
        self._changed()

    def failed(self, segment: Segment, reason: str) -> None:
        slot = self._slots[segment]
        slot.reason = reason
        self._step(segment, "failed")
        self._context.note("engines_broken", f"{segment} cannot be loaded: {reason}")
        self._changed()

    def unloaded(self, segment: Segment) -> None:
        self._step(segment, "unloaded")
        slot = self._slots[segment]
        if slot.resident.digest != slot.digest or slot.reason == "wanted again":
            slot.reason = ""
            self._want(segment, slot.resident)
        else:
            del self._slots[segment]
        self._changed()

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
        if slot is not None:
            slot.seconds = seconds if slot.seconds <= 0 else 0.9 * slot.seconds + 0.1 * seconds

    def ready_at(self, model: str, boundary: int) -> Optional[Segment]:
        """The ready segment that starts at ``boundary``: the shortest, which leaves most room for urgent works."""
        starting = self._starting.get((model, boundary))
        return starting[0] if starting else None

    def can_still_run(self, model: str, boundary: int) -> Optional[Segment]:
        """Like ready_at, draining slots included: what is queued here may finish."""
        ready = self.ready_at(model, boundary)
        if ready is not None:
            return ready
        draining = [
            segment
            for segment, slot in self._slots.items()
            if slot.state == "draining" and segment.model == model and segment.first == boundary
        ]
        return min(draining) if draining else None

    def seconds(self, segment: Segment) -> float:
        slot = self._slots.get(segment)
        return slot.seconds if slot is not None else 0.0

    def run_seconds(self, model: str, boundary: int) -> float:
        """Seconds of the run of ready segments that begins at ``boundary``: what a newcomer is likely to stay for."""
        total = 0.0
        segment = self.ready_at(model, boundary)
        while segment is not None:
            total += self._slots[segment].seconds
            segment = self.ready_at(model, segment.stop)
        return total

    def ready(self) -> Tuple[ReadySegment, ...]:
        return tuple(
            ReadySegment(segment.model, segment.first, segment.stop, round(self._slots[segment].seconds, 6))
            for starting in self._starting.values()
            for segment in starting
        )

    def state(self) -> AllocationState:
        segments = tuple(
            SlotState(s.model, s.first, s.stop, PUBLIC.get(slot.state, slot.state), slot.reason)
            for s, slot in sorted(self._slots.items())
        )
        return AllocationState(self._epoch, segments, self._context.draining)

    def publish(self) -> None:
        self._context.emit(PublishAllocation(self.state()))

    def _want(self, segment: Segment, resident: Resident) -> None:
        slot = self._slots.get(segment)
        if slot is None:
            slot = self._slots[segment] = Slot(resident)
        changed = resident.digest != slot.digest
        if slot.state == "broken" and not changed and resident == slot.resident:
            return  # the same engine would break again; another digest, or dropping it first, gives it a new chance
        slot.resident = resident
        if changed and slot.state in ("ready", "draining"):
            self._step(segment, "dropped")  # another engine for the same units: drain, unload, load the new one
            return
        before = slot.state
        if before == "unloading":
            slot.reason = "wanted again"
        self._step(segment, "wanted")
        if before in ("absent", "broken"):
            slot.digest, slot.reason, slot.seconds = resident.digest, "", resident.seconds
            self._context.emit(Load(segment, resident.digest, resident.memory_bytes))

    def _step(self, segment: Segment, event: str) -> None:
        slot = self._slots[segment]
        slot.state = SLOT.step(slot.state, event)
        if slot.state == "absent":
            del self._slots[segment]
            if event == "unloaded":
                self._slots[segment] = slot  # ``unloaded`` decides whether it comes back

    def _changed(self) -> None:
        self._starting = {}
        for segment in sorted(s for s, slot in self._slots.items() if slot.state == "ready"):
            self._starting.setdefault((segment.model, segment.first), []).append(segment)
        self.publish()
