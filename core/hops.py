"""A work's way through this device: placed, computed, handed over, kept until it is passed on, handed on again.

This file moves works between the places of ``holdings``; who is asked and who is cleared is decided in ``asking``
and ``room``. After a hop the sender keeps the tensor until the receiver's own next hop has taken it, so a work in
flight is on two devices, and when one dies the other sends it on again from the same boundary. Doing so twice is
harmless: keys tell duplicates apart, and the head publishes one answer.
"""

from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Optional

from pamdi.core.asking import Asking
from pamdi.core.compute import Compute, waiting
from pamdi.core.context import Context
from pamdi.core.errors import Reason
from pamdi.core.events import Inferred, Received
from pamdi.core.holdings import Held, Holdings, Upstream
from pamdi.core.instructions import Send
from pamdi.core.messages import Answer, Finished, PassedOn, Refusal, Rtc, Taken, Tensor
from pamdi.core.peers import Peers
from pamdi.core.remembered import Remembered
from pamdi.core.room import Klass, Room
from pamdi.core.seeking import Seeking
from pamdi.core.segment import Segment
from pamdi.core.slots import Slots
from pamdi.core.work import Key, Visit, Work, WorkId

# To the head: the work, its output (or the reason it has none), and whether this device is the head is its affair.
AnswerHere = Callable[[Work, Any, int, str, str], None]


class Hops:
    def __init__(
        self, context: Context, holdings: Holdings, remembered: Remembered, slots: Slots, peers: Peers, klass: Klass
    ) -> None:
        self._context = context
        self._holdings = holdings
        self._remembered = remembered
        self._slots = slots
        self._peers = peers
        self._klass = klass
        self._seeking = Seeking()
        self._leaving: Dict[Key, Held] = {}
        self.compute = Compute(context, holdings, slots, klass, self._outputs_full)
        self.room = Room(context, self.compute, slots, klass)
        self.asking = Asking(context, peers, slots, self.compute, self.room)
        self.answer_here: Optional[AnswerHere] = None

    # -- a work comes ------------------------------------------------------------------------------------------

    def begin(self, work: Work, payload: Any, nbytes: int) -> None:
        """The head starts (or replays) a work at boundary 0."""
        self._remembered.raise_attempt(work.key.work, work.key.attempt)
        self._erase_lower_attempts(work.key)
        held = Held(work, payload, nbytes, self._context.now)
        self._admit(held)
        self.seek(held)

    def tensor(self, event: Received, message: Tensor) -> None:
        key, peer = message.work.key, event.peer
        if self.answer_known(peer, key):
            self.room.withdrawn(peer, key)
            return
        reserved = self.room.use(key, peer)
        if not reserved and (
            self._context.draining or not self.room.has_room(message.work.urgency, message.work.model, key.boundary)
        ):
            self._context.note("tensors_refused")
            self._context.emit(Send(peer, Refusal(key, "busy", self.room.backlog())))
            return
        now = self._context.now
        held = Held(message.work, event.payload, event.nbytes, now - event.transit_s)
        held.since = held.arrived = now
        held.transfer_s = event.transit_s
        held.upstream = Upstream(peer, key)
        self._remembered.took(key, peer)
        self._erase_lower_attempts(key)
        self._admit(held)
        self._context.emit(Send(peer, Taken(key)))
        if self._slots.can_still_run(held.model, key.boundary) is None:
            self.seek(held)
        else:
            self.compute.enqueue(held)

    def answer_known(self, peer: str, key: Key) -> bool:
        """A duplicate is answered with what is known of it. Returns whether it was one."""
        if self._remembered.has_ended(key.work):
            self._context.emit(Send(peer, Finished((key.work,))))
        elif self._remembered.has_passed(key) or key.attempt < self._remembered.attempt(key.work):
            self._context.emit(Send(peer, PassedOn(key)))
        elif self._remembered.has_passed(key) is False or key in self._holdings:
            self._context.emit(Send(peer, Taken(key)))
        else:
            return False
        self._context.note("duplicates_suppressed")
        return True

    # -- a work is placed ----------------------------------------------------------------------------------------

    def seek(self, held: Held) -> None:
        """``held`` needs somebody to run its next segment."""
        held.place, held.peer, held.since = "seeking", "", self._context.now
        self._seeking.add(held, self._klass(held))
        if held.key.boundary > 0:
            self._leaving[held.key] = held
        self._context.timers.set(self._context.now + self._context.limits.no_route_s, self._no_route, held.key)

    def place_all(self) -> None:
        """Place every seeking work that can be placed now: most urgent first, one look per group of equals."""
        for key in self.asking.expired():
            self._back_to_seeking(key)
        blocked = set()
        policy, now = self._context.policy, self._context.now
        while True:
            fronts = [
                (policy.rank(waiting(held, group.urgency), now), key, group, held)
                for group, key in self._seeking.fronts(policy.youngest_first)
                if group not in blocked
                for held in [self._holdings.get(key)]
                if held is not None
            ]
            if not fronts:
                break
            _, _, group, held = min(fronts, key=lambda front: front[:2])
            if not self._place(held, group.urgency):
                blocked.add(group)
        self._take_asking_when_idle()

    def ask_early(self, held: Held, segment: Segment) -> None:
        """``held`` has just started ``segment``: if its next place is elsewhere, ask there while it computes."""
        model = self._context.models.get(held.model)
        if model is None or segment.stop >= model.units:
            return
        key = held.key._replace(boundary=segment.stop)
        if key in self._holdings:
            return
        view = waiting(held, self._klass(held))._replace(boundary=segment.stop, continuing=True)
        entering = model.bytes[segment.first] or 1
        nbytes = model.bytes[segment.stop] * max(1, held.nbytes // entering)
        best = self.asking.best(view, held.model, nbytes)
        if best is not None and best.device != self._context.device:
            self._ask(held, key, best.device, best.compute_s, nbytes, self._slots.seconds(segment))

    # -- a segment has run ---------------------------------------------------------------------------------------

    def inferred(self, event: Inferred) -> None:
        held, segment = self.compute.running, self.compute.segment
        assert held is not None and segment is not None and held.key == event.key, event.key
        started_at = self.compute.started_at
        self.compute.finish()
        self._slots.measured(segment, event.compute_s)
        if self._holdings.get(held.key) is not held:
            self._context.note("results_of_ended_works")
            return
        following = held.key._replace(boundary=segment.stop)
        if following in self._holdings:  # the same work came here by another way, and is further on
            self._context.note("duplicates_suppressed")
            self._tell_upstream(held)
            self._forget(held)
            return
        visit = Visit(
            segment.first, segment.stop, self._context.device, started_at - held.arrived, event.compute_s,
            held.transfer_s, started_at - held.born,
        )  # fmt: skip
        held.path += (visit,)
        held.payload, held.nbytes = event.payload, event.nbytes
        held.transfer_s, held.arrived, held.continuing = 0.0, self._context.now, True
        self._holdings.rekey(held, following)
        model = self._context.models.get(held.model)
        if model is not None and segment.stop >= model.units:
            self._answer(held)
            return
        ask = self.asking.get(held.key)
        if ask is None:
            self.seek(held)
        elif ask.granted:
            self._send(held, ask.peer)
        else:
            held.place = "asking"
            self._leaving[held.key] = held

    def inference_failed(self, detail: str) -> None:
        """The segment could not run on this input. Another device may do better; an input that no device can run
        must not be tried for ever."""
        held, segment = self.compute.running, self.compute.segment
        self.compute.finish()
        if held is not None and segment is not None:
            self.asking.withdraw(held.key._replace(boundary=segment.stop))
        if held is not None and self._holdings.get(held.key) is held:
            self._context.note("inferences_failed", f"{held.key.work}: {detail}")
            self._again(held, detail)

    # -- a hand-over goes on -------------------------------------------------------------------------------------

    def cleared(self, peer: str, key: Key) -> None:
        """Our RTC was granted: if the tensor is ready, it goes."""
        held = self._holdings.get(key)
        if held is not None and held.place == "asking":
            self._send(held, peer)

    def refused(self, peer: str, key: Key) -> None:
        """Our RTC, our promise or our tensor was refused: the next best."""
        held = self._holdings.get(key)
        if held is None:
            return
        if held.place == "asking" or (held.place == "sent" and held.peer == peer):
            self._leaving.pop(key, None)
            self.seek(held)

    def taken(self, peer: str, key: Key) -> None:
        held = self._holdings.get(key)
        if held is None or held.place != "sent" or held.peer != peer:
            return
        self._leaving.pop(key, None)
        self._tell_upstream(held)
        for dropped in self._holdings.keep_as_backup(held):
            self._context.note("backups_dropped", f"no room to keep {dropped.key.work} for {dropped.peer}")
        self._context.timers.set(self._context.now + self._context.limits.backup_s, self._backup_too_old, key)

    def passed_on(self, peer: str, key: Key) -> None:
        held = self._holdings.get(key)
        if held is not None and held.peer == peer and held.place in ("sent", "backup"):
            if held.place == "sent":
                self._leaving.pop(key, None)
                self._tell_upstream(held)
            self._holdings.remove(held)

    def ended(self, works: Iterable[WorkId]) -> None:
        """Forget everything about these works; a segment that computes for one of them runs out unheard."""
        for work in works:
            for held in self._holdings.of(work):
                self._forget(held)
            self.room.ended(work)
            self._remembered.end(work)

    # -- a neighbour goes or comes -------------------------------------------------------------------------------

    def link_lost(self, peer: str) -> None:
        """Requests are void, tensors on the way may be lost: both seek again at once. Backups wait for the verdict."""
        self.room.peer_lost(peer)
        for key in self.asking.lost(peer):
            self._back_to_seeking(key)
        for held in self._with_peer(peer, "sent"):
            self._leaving.pop(held.key, None)
            self.seek(held)
        self._context.timers.set(self._context.now + self._context.limits.dead_s, self._verdict, peer)

    def hand_on_again(self, peer: str, keys: Optional[FrozenSet[Key]] = None) -> None:
        """``peer`` is dead, or holds only ``keys`` of what it took from us: the rest goes elsewhere."""
        for held in self._with_peer(peer, "backup"):
            if keys is None or held.key not in keys:
                self._context.note("works_resent", f"{held.key.work} is handed on again: {peer} lost it")
                self._again(held, f"lost by {peer}")

    def answers_again(self, peer: str) -> None:
        """The link to a head is open: answers it may not have go once more."""
        for held in self._with_peer(peer, "answering"):
            self._send_answer(held)

    def _verdict(self, peer: str) -> None:
        if self._peers.is_dead(peer):
            self.hand_on_again(peer)

    # -- inside --------------------------------------------------------------------------------------------------

    def _admit(self, held: Held) -> None:
        self._holdings.add(held)
        if held.age_s_max is not None:
            self._context.timers.set(held.born + held.age_s_max, self._lift, held.key.work)
        if held.due is not None:
            self._context.timers.set(held.due, self._too_late, held.key.work)

    def _place(self, held: Held, urgency: float) -> bool:
        best = self.asking.best(waiting(held, urgency), held.model, held.nbytes)
        if best is None:
            return False
        self._seeking.discard(held.key)
        if best.device == self._context.device:
            self._leaving.pop(held.key, None)
            self.compute.enqueue(held)
        else:
            held.place = "asking"
            self._ask(held, held.key, best.device, best.compute_s, held.nbytes, 0.0)
        return True

    def _ask(self, held: Held, key: Key, peer: str, expected_s: float, nbytes: int, ready_in_s: float) -> None:
        now = self._context.now
        left = None if held.due is None else held.due - now
        rtc = Rtc(key, held.model, self._klass(held), nbytes, expected_s, now - held.born, left, ready_in_s)
        self.asking.ask(peer, rtc)

    def _send(self, held: Held, peer: str) -> None:
        self.asking.done(held.key)
        held.place, held.peer, held.since = "sent", peer, self._context.now
        if held.key.boundary > 0:
            self._leaving[held.key] = held
        message = Tensor(held.header(self._context.now))
        self._context.emit(Send(peer, message, held.payload, self._klass(held)))

    def _answer(self, held: Held, error: str = "", detail: str = "") -> None:
        """The model's end is reached, or given up: to the head, which may be this device."""
        if held.head == self._context.device:
            self._tell_upstream(held)
            self._forget(held)
            assert self.answer_here is not None
            self.answer_here(held.header(self._context.now), held.payload, held.nbytes, error, detail)
            return
        held.place, held.peer, held.error = "answering", held.head, error
        self._context.timers.set(self._context.now + self._context.limits.backup_s, self._backup_too_old, held.key)
        self._send_answer(held)

    def _send_answer(self, held: Held) -> None:
        payload = None if held.error else held.payload
        message = Answer(held.header(self._context.now), error=held.error)
        if self._peers.is_up(held.head):
            self._context.emit(Send(held.head, message, payload, self._klass(held)))

    def _tell_upstream(self, held: Held) -> None:
        if held.upstream is not None:
            self._remembered.passed(held.upstream.key)
            self._context.emit(Send(held.upstream.peer, PassedOn(held.upstream.key)))
            held.upstream = None

    def _again(self, held: Held, detail: str) -> None:
        held.resent += 1
        source = self._context.sources.get(held.key.source)
        if held.resent > (source.attempts_max if source is not None else 3):
            self._holdings.leave_backup(held, "seeking")
            self._answer(held, Reason.ATTEMPTS.value, detail)
        else:
            self._holdings.leave_backup(held, "seeking")
            self.seek(held)

    def _forget(self, held: Held) -> None:
        self._seeking.discard(held.key)
        self._leaving.pop(held.key, None)
        self.compute.drop(held)
        self.asking.withdraw(held.key)
        self._withdraw_next(held)
        self._holdings.remove(held)

    def _withdraw_next(self, held: Held) -> None:
        """Give back what was asked early for a running work."""
        if self.compute.running is held and self.compute.segment is not None:
            self.asking.withdraw(held.key._replace(boundary=self.compute.segment.stop))

    def _back_to_seeking(self, key: Key) -> None:
        held = self._holdings.get(key)
        if held is not None and held.place == "asking":
            self._leaving.pop(key, None)
            self.seek(held)

    def _take_asking_when_idle(self) -> None:
        """Our executor has nothing to do while works of ours wait for others' clearance: take the first of them."""
        if not self.compute.idle() or self._context.draining:
            return
        now, rank = self._context.now, self._context.policy.rank
        waiting_here = []
        for held in self._holdings.all() if self.asking.in_the_air() else ():
            ask = self.asking.get(held.key)
            if held.place == "asking" and ask is not None and not ask.granted:
                view = waiting(held, self._klass(held))
                allocation = self._context.allocation
                routes = allocation.routes if allocation is not None else {}
                here = self._context.device
                if self._slots.ready_at(held.model, held.key.boundary) is not None and self._context.policy.may_take(
                    view, here, here, routes
                ):
                    waiting_here.append((rank(view, now), held.key, held))
        if waiting_here:
            held = min(waiting_here, key=lambda entry: entry[:2])[2]
            self.asking.withdraw(held.key)
            self._leaving.pop(held.key, None)
            self.compute.enqueue(held)

    def _outputs_full(self, held: Held, segment: Segment) -> bool:
        """Whether too many results at or above this work's class, of this very segment, still wait to leave."""
        if not self._leaving:
            return False
        klass = self._klass(held)
        stuck = sum(
            other.model == held.model and other.key.boundary == segment.stop and self._klass(other) >= klass
            for other in self._leaving.values()
        )
        return stuck >= self._context.limits.outputs_max

    def _erase_lower_attempts(self, key: Key) -> None:
        for held in self._holdings.of(key.work):
            if held.key.attempt < key.attempt:
                self._forget(held)

    def _with_peer(self, peer: str, place: str) -> List[Held]:
        return [held for held in self._holdings.all() if held.place == place and held.peer == peer]

    def _lift(self, work: WorkId) -> None:
        """The starvation bound: a seeking work that has become too old moves to its new class."""
        for held in self._holdings.of(work):
            if held.place == "seeking":
                self._seeking.discard(held.key)
                self._seeking.add(held, self._klass(held))

    def _too_late(self, work: WorkId) -> None:
        """An expired work stops where it is; its head has the same timer and says so to its client."""
        for held in self._holdings.of(work):
            if held.head != self._context.device and held.due is not None and held.due <= self._context.now:
                self._context.note("works_expired_here")
                self._forget(held)

    def _no_route(self, key: Key) -> None:
        held = self._holdings.get(key)
        limits, now = self._context.limits, self._context.now
        if held is None or held.place != "seeking" or now < held.since + limits.no_route_s:
            return
        somebody = self._slots.ready_at(held.model, key.boundary) is not None or any(
            (held.model, key.boundary) in self._peers.get(peer).ready for peer in self._peers.linked()
        )
        if somebody:
            self._context.timers.set(now + limits.no_route_s, self._no_route, key)
        else:
            self._seeking.discard(key)
            self._leaving.pop(key, None)
            detail = f"no device in reach holds unit {key.boundary} of {held.model}"
            self._answer(held, Reason.NO_ROUTE.value, detail)

    def _backup_too_old(self, key: Key) -> None:
        held = self._holdings.get(key)
        limit = self._context.limits.backup_s
        if held is not None and held.place in ("backup", "answering") and self._context.now >= held.since + limit:
            self._context.note("backups_expired")
            self._holdings.remove(held)
