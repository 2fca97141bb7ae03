"""The granting side of RTC / CTC: how much room there is, who holds a promise of it, and who waits for one.

Room is counted by class. A work is cleared to send while fewer than ``works_ahead_max`` works at or above its class
(or fewer than its segment's best batch, where that is larger) are queued or promised here, so that urgent works are
held up by urgent works alone. Each resident segment keeps one slot for its own boundary beyond that: two full devices
cannot wait for each other, because the last segment's slot always drains, hence the one before it, and so on. Over all
classes ``queue_works_max`` bounds the queue, those slots apart; a more urgent request then takes over the least urgent
promise that has not been used.

A promise lasts until its tensor can be here, behind everything else that was promised to the same neighbour, over a
link half as fast as it should be, and as late as tensors have been of late (``lag``): one that ended sooner would let
two works refuse each other for ever.

Requests that find no room wait for a moment (they are *parked*), the most urgent first, then the oldest. Where too
many wait, the least urgent is the one that is refused.
"""

from typing import Callable, Dict, Iterable, List, Optional, Tuple

import msgspec

from pamdi.core.compute import Compute
from pamdi.core.context import Context
from pamdi.core.instructions import Send
from pamdi.core.messages import Backlog, ClassBacklog, Ctc, Refusal, Revoked, Rtc
from pamdi.core.peers import Peers
from pamdi.core.slots import Slots
from pamdi.core.work import Key, WorkId


class Reservation(msgspec.Struct, frozen=True, gc=False):
    """Room promised to ``peer`` until ``until`` for one work, or asked for until then; ``born`` and ``since`` (when
    it was promised or asked) on our clock."""

    peer: str
    rtc: Rtc
    until: float
    born: float
    since: float

    def rank(self) -> Tuple[float, float, Key]:
        """Smallest first: most urgent, then oldest."""
        return (-self.rtc.urgency, self.born, self.rtc.key)


class Room:
    """``unplaced_s()``: of the works that wait here for a place, the seconds by class, a class perhaps more than once.
    It is set by ``Placing``, which knows them."""

    def __init__(self, context: Context, compute: Compute, slots: Slots, peers: Peers) -> None:
        self._context = context
        self._compute = compute
        self._slots = slots
        self._peers = peers
        self._reservations: Dict[Key, Reservation] = {}
        self._parked: Dict[Key, Reservation] = {}
        self._tally = compute.tally
        self._by_class: Dict[float, float] = {}
        self._classes: Optional[Tuple[ClassBacklog, ...]] = None
        self._counted = -1
        self.unplaced_s: Callable[[], Iterable[Tuple[float, float]]] = tuple

    def __len__(self) -> int:
        """Works queued or promised."""
        return self._tally.works

    def waiting(self) -> int:
        """Requests parked."""
        return len(self._parked)

    def request(self, peer: str, rtc: Rtc) -> None:
        """An RTC for a work that we do not know: grant, park, or refuse with the reason."""
        self.withdrawn(peer, rtc.key)  # asked again: the answer of a moment ago was lost, or is void
        promised = rtc.key in self._reservations or rtc.key in self._parked
        why = "busy" if promised else self._objection(rtc)
        if why:
            self._refuse(peer, rtc.key, why)
        elif self.has_room(rtc.urgency, rtc.model, rtc.key.boundary) or self._take_over(rtc):
            self._grant(peer, rtc)
        else:
            self._park(peer, rtc)

    def has_room(self, urgency: float, model: str, boundary: int) -> bool:
        limits = self._context.limits
        below = self._tally.works < limits.queue_works_max
        ahead_max = max(limits.works_ahead_max, self._slots.batch_ahead(model, boundary))
        if below and self._tally.at_or_above(urgency) < ahead_max:
            return True
        return boundary > 0 and not self._tally.holds(model, boundary)

    def objection(self, model: str, boundary: int, nbytes: int) -> str:
        """Why a work at ``boundary`` cannot be taken here at all now, or ""."""
        if self._context.draining:
            return "draining"
        if self._slots.ready_at(model, boundary) is None:
            return "not_ready"
        if nbytes > self._context.limits.tensor_bytes_max:
            return "too_large"
        return ""

    def use(self, key: Key, peer: str) -> bool:
        """The tensor has arrived: whether its sender held a promise, which is used up."""
        reservation = self._reservations.get(key)
        if reservation is None or reservation.peer != peer:
            return False
        self._unreserve(key)
        return True

    def withdrawn(self, peer: str, key: Key) -> None:
        if key in self._reservations and self._reservations[key].peer == peer:
            self._unreserve(key)
        if key in self._parked and self._parked[key].peer == peer:
            self._release(key)

    def ended(self, work: WorkId) -> None:
        for key in _of(work, self._reservations) if self._reservations else ():
            self._unreserve(key)
        for key in _of(work, self._parked) if self._parked else ():
            self._release(key)

    def peer_lost(self, peer: str) -> None:
        for key in [key for key, entry in self._reservations.items() if entry.peer == peer]:
            self._unreserve(key)
        for key in [key for key, entry in self._parked.items() if entry.peer == peer]:
            self._release(key)

    def grant_parked(self) -> None:
        """Room may have become free: the most urgent waits no longer, then the oldest."""
        if not self._parked:
            return
        for entry in sorted(self._parked.values(), key=Reservation.rank):
            why = self._objection(entry.rtc)
            if why:
                self._release(entry.rtc.key)
                self._refuse(entry.peer, entry.rtc.key, why)
            elif self.has_room(entry.rtc.urgency, entry.rtc.model, entry.rtc.key.boundary):
                self._release(entry.rtc.key)
                self._grant(entry.peer, entry.rtc)

    def promised(self) -> Iterable[Reservation]:
        """What may arrive at any moment."""
        return self._reservations.values()

    def backlog(self) -> Backlog:
        """Q by class: the runs of what is queued and of what is promised, and the rest of the running segment; where
        the policy says so, also the runs of what waits here for a place."""
        seconds = self._seconds()
        if self._context.policy.tells_waiting:
            seconds = dict(seconds)
            for klass, unplaced_s in self.unplaced_s():
                seconds[klass] = seconds.get(klass, 0.0) + unplaced_s
            return Backlog(round(self._compute.running_s(), 6), _classes(seconds))
        if self._classes is None:
            self._classes = _classes(seconds)
        return Backlog(round(self._compute.running_s(), 6), self._classes)

    def ahead_s(self, klass: float, continuing: bool) -> float:
        """Seconds that a work of ``klass`` would wait here. One that goes on where it is comes before others of its
        class: only more urgent ones delay it."""
        if continuing and not self._anything_above(klass):
            return 0.0
        total = 0.0 if continuing else self._compute.running_s()
        for other, seconds in self._seconds().items():
            if other > klass or (other == klass and not continuing):
                total += seconds
        return total

    def _anything_above(self, klass: float) -> bool:
        for held in self._compute.batch:
            if held.klass > klass:
                return True
        return self._tally.works > 0 and self._tally.anything_above(klass)

    def _seconds(self) -> Dict[float, float]:
        """Runs of all that is here, by class; counted anew when anything here has changed. Not to be changed by the
        caller."""
        if self._counted != self._context.here:
            self._by_class, self._classes, self._counted = self._count(), None, self._context.here
        return self._by_class

    def _count(self) -> Dict[float, float]:
        seconds = self._tally.seconds_by_class()
        segment = self._compute.segment
        for running in self._compute.batch if segment is not None else ():
            assert segment is not None
            rest_s = self._slots.run_seconds(running.model, segment.stop)
            if rest_s:
                seconds[running.klass] = seconds.get(running.klass, 0.0) + rest_s
        return seconds

    def _objection(self, rtc: Rtc) -> str:
        return self.objection(rtc.model, rtc.key.boundary, rtc.nbytes)

    def _take_over(self, rtc: Rtc) -> bool:
        """When the queue as a whole is full: take the least urgent unused promise below this class, if any."""
        lower = [e for e in self._reservations.values() if e.rtc.urgency < rtc.urgency]
        if not lower or len(self) < self._context.limits.queue_works_max:
            return False
        loser = max(lower, key=Reservation.rank)
        self._unreserve(loser.rtc.key)
        self._context.emit(Send(loser.peer, Revoked(loser.rtc.key, self.backlog())))
        self._context.note("reservations_taken_over")
        return self.has_room(rtc.urgency, rtc.model, rtc.key.boundary)

    def _park(self, peer: str, rtc: Rtc) -> None:
        now = self._context.now
        until = now + self._context.limits.parked_s
        self._parked[rtc.key] = Reservation(peer, rtc, until, now - rtc.age_s, now)
        self._context.timers.set(until, self._unpark, rtc.key)
        if len(self._parked) > self._context.limits.parked_max:
            last = max(self._parked.values(), key=Reservation.rank)
            self._release(last.rtc.key)
            self._refuse(last.peer, last.rtc.key, "busy")

    def _grant(self, peer: str, rtc: Rtc) -> None:
        now = self._context.now
        coming = rtc.nbytes + sum(e.rtc.nbytes for e in self._reservations.values() if e.peer == peer)
        transfer_s = self._peers.transfer_s(peer, coming)
        transit_s = 4 * transfer_s + 2 * self._peers.lag.seconds
        for_s = self._context.limits.reservation_s + rtc.ready_in_s + rtc.expected_s + transit_s
        self._reservations[rtc.key] = Reservation(peer, rtc, now + for_s, now - rtc.age_s, now)
        self._tally.add(rtc.urgency, rtc.model, rtc.key.boundary)
        self._context.here += 1
        self._context.timers.set(now + for_s, self._expire, rtc.key)
        self._context.emit(Send(peer, Ctc(rtc.key, for_s, self.backlog(), rtc.number)))

    def _refuse(self, peer: str, key: Key, why: str) -> None:
        self._context.note("rtc_refused")
        self._context.emit(Send(peer, Refusal(key, why, self.backlog())))

    def _unreserve(self, key: Key) -> None:
        rtc = self._reservations.pop(key).rtc
        self._tally.remove(rtc.urgency, rtc.model, rtc.key.boundary)
        self._context.timers.drop(self._expire, key)
        self._context.here += 1

    def _release(self, key: Key) -> None:
        del self._parked[key]
        self._context.timers.drop(self._unpark, key)

    def _expire(self, key: Key) -> None:
        if key in self._reservations:
            self._unreserve(key)
            self._context.note("reservations_expired")

    def _unpark(self, key: Key) -> None:
        entry = self._parked.get(key)
        if entry is not None:
            self._release(key)
            self._refuse(entry.peer, key, "busy")


def _of(work: WorkId, entries: Dict[Key, Reservation]) -> List[Key]:
    return [key for key in entries if key.id == work.id and key.source == work.source]


def _classes(seconds: Dict[float, float]) -> Tuple[ClassBacklog, ...]:
    if len(seconds) == 1:  # as most of the time
        ((klass, s),) = seconds.items()
        return (ClassBacklog(klass, round(s, 6)),)
    return tuple([ClassBacklog(klass, round(s, 6)) for klass, s in sorted(seconds.items(), reverse=True)])
