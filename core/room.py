"""The granting side of RTC / CTC: how much room there is, who holds a promise of it, and who waits for one.

Room is counted by class. A work is cleared to send while fewer than ``works_ahead_max`` works at or above its class
are queued or promised here, so that urgent works are held up by urgent works alone. Each resident segment keeps one
slot for its own boundary beyond that: two full devices cannot wait for each other, because the last segment's slot
always drains, hence the one before it, and so on. Over all classes ``queue_works_max`` bounds the queue; a more
urgent request then takes over the least urgent promise that has not been used.
"""

from typing import Dict, List, NamedTuple, Optional

from pamdi.core.compute import Compute
from pamdi.core.context import Context
from pamdi.core.holdings import Held
from pamdi.core.instructions import Send
from pamdi.core.messages import Backlog, ClassBacklog, Ctc, Refusal, Revoked, Rtc
from pamdi.core.slots import Slots
from pamdi.core.work import Key, WorkId


class Reservation(NamedTuple):
    """Room promised to ``peer`` until ``until`` for one work."""

    peer: str
    rtc: Rtc
    until: float


class Room:
    def __init__(self, context: Context, compute: Compute, slots: Slots, klass: "Klass") -> None:
        self._context = context
        self._compute = compute
        self._slots = slots
        self._klass = klass
        self._reservations: Dict[Key, Reservation] = {}
        self._parked: Dict[Key, Reservation] = {}

    def request(self, peer: str, rtc: Rtc) -> None:
        """An RTC for a work that we do not know: grant, park, or refuse with the reason."""
        why = self._objection(rtc)
        if why:
            self._refuse(peer, rtc.key, why)
        elif self.has_room(rtc.urgency, rtc.model, rtc.key.boundary) or self._take_over(rtc):
            self._grant(peer, rtc)
        elif len(self._parked) < self._context.limits.parked_max:
            until = self._context.now + self._context.limits.parked_s
            self._parked[rtc.key] = Reservation(peer, rtc, until)
            self._context.timers.set(until, self._unpark, rtc.key)
        else:
            self._refuse(peer, rtc.key, "busy")

    def has_room(self, urgency: float, model: str, boundary: int) -> bool:
        queued = self._compute.queued()
        if len(queued) + len(self._reservations) >= self._context.limits.queue_works_max:
            return False
        ahead = sum(self._klass(held) >= urgency for held in queued)
        ahead += sum(reservation.rtc.urgency >= urgency for reservation in self._reservations.values())
        if ahead < self._context.limits.works_ahead_max:
            return True
        return boundary > 0 and not self._slot_taken(model, boundary, queued)

    def use(self, key: Key, peer: str) -> bool:
        """The tensor has arrived: whether its sender held a promise, which is used up."""
        reservation = self._reservations.get(key)
        if reservation is None or reservation.peer != peer:
            return False
        del self._reservations[key]
        return True

    def withdrawn(self, peer: str, key: Key) -> None:
        for table in (self._reservations, self._parked):
            if key in table and table[key].peer == peer:
                del table[key]

    def ended(self, work: WorkId) -> None:
        for table in (self._reservations, self._parked):
            for key in [key for key in table if key.work == work]:
                del table[key]

    def peer_lost(self, peer: str) -> None:
        for table in (self._reservations, self._parked):
            for key in [key for key, entry in table.items() if entry.peer == peer]:
                del table[key]

    def grant_parked(self) -> None:
        """Room may have become free: the most urgent waits no longer, then the oldest."""
        if not self._parked:
            return
        for entry in sorted(self._parked.values(), key=lambda e: (-e.rtc.urgency, -e.rtc.age_s, e.rtc.key)):
            why = self._objection(entry.rtc)
            if why:
                del self._parked[entry.rtc.key]
                self._refuse(entry.peer, entry.rtc.key, why)
            elif self.has_room(entry.rtc.urgency, entry.rtc.model, entry.rtc.key.boundary):
                del self._parked[entry.rtc.key]
                self._grant(entry.peer, entry.rtc)

    def backlog(self) -> Backlog:
        """Q by class: the runs of what is queued and of what is promised, and the rest of the running segment."""
        classes: Dict[float, float] = {}
        for held in self._compute.queued():
            klass = self._klass(held)
            seconds = self._slots.run_seconds(held.model, held.key.boundary)
            classes[klass] = classes.get(klass, 0.0) + seconds
        for reservation in self._reservations.values():
            rtc = reservation.rtc
            seconds = self._slots.run_seconds(rtc.model, rtc.key.boundary)
            classes[rtc.urgency] = classes.get(rtc.urgency, 0.0) + seconds
        running = self._compute.running
        segment = self._compute.segment
        if running is not None and segment is not None:
            klass = self._klass(running)
            classes[klass] = classes.get(klass, 0.0) + self._slots.run_seconds(running.model, segment.stop)
        ordered = tuple(ClassBacklog(klass, round(classes[klass], 6)) for klass in sorted(classes, reverse=True))
        return Backlog(round(self._compute.running_s(), 6), ordered)

    def _slot_taken(self, model: str, boundary: int, queued: List[Held]) -> bool:
        return any(held.model == model and held.key.boundary == boundary for held in queued) or any(
            entry.rtc.model == model and entry.rtc.key.boundary == boundary for entry in self._reservations.values()
        )

    def _objection(self, rtc: Rtc) -> str:
        if self._context.draining:
            return "draining"
        if self._slots.ready_at(rtc.model, rtc.key.boundary) is None:
            return "not_ready"
        if rtc.nbytes > self._context.limits.tensor_bytes_max:
            return "too_large"
        return ""

    def _take_over(self, rtc: Rtc) -> bool:
        """When the queue as a whole is full: take the least urgent unused promise below this class, if any."""
        lower = [e for e in self._reservations.values() if e.rtc.urgency < rtc.urgency]
        if not lower or len(self._compute.queued()) + len(self._reservations) < self._context.limits.queue_works_max:
            return False
        loser = min(lower, key=lambda e: (e.rtc.urgency, e.rtc.age_s, e.rtc.key))
        del self._reservations[loser.rtc.key]
        self._context.emit(Send(loser.peer, Revoked(loser.rtc.key, self.backlog())))
        self._context.note("reservations_taken_over")
        return self.has_room(rtc.urgency, rtc.model, rtc.key.boundary)

    def _grant(self, peer: str, rtc: Rtc) -> None:
        for_s = self._context.limits.reservation_s + rtc.ready_in_s + rtc.expected_s
        until = self._context.now + for_s
        self._reservations[rtc.key] = Reservation(peer, rtc, until)
        self._context.timers.set(until, self._expire, rtc.key)
        self._context.emit(Send(peer, Ctc(rtc.key, for_s, self.backlog())))

    def _refuse(self, peer: str, key: Key, why: str) -> None:
        self._context.note("rtc_refused")
        self._context.emit(Send(peer, Refusal(key, why, self.backlog())))

    def _expire(self, key: Key) -> None:
        reservation = self._reservations.get(key)
        if reservation is not None and reservation.until <= self._context.now:
            del self._reservations[key]
            self._context.note("reservations_expired")

    def _unpark(self, key: Key) -> None:
        entry = self._parked.get(key)
        if entry is not None and entry.until <= self._context.now:
            del self._parked[key]
            self._refuse(entry.peer, key, "busy")


class Klass:
    """The class in which a held work queues: the policy's view of its urgency, one class up once it is too old."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __call__(self, held: Held) -> float:
        return self.of(held.urgency, held.born, held.age_s_max)

    def of(self, urgency: float, born: float, age_s_max: Optional[float]) -> float:
        if age_s_max is not None and self._context.now - born >= age_s_max:
            urgency = self._context.urgency_above(urgency)
        return self._context.policy.urgency(urgency)
