"""Works on this device find who runs their next segment: this device, or a neighbour that is asked.

``seek`` says that a work needs somebody; ``place_all`` runs after every event and places what can be placed, most
urgent first. ``leaving`` are results of ours that wait to go or to be taken: while too many of a class wait, none
like them is computed, so that a slow neighbour holds works back here instead of filling memory.
"""

from heapq import heapify, heappop, heappush
from typing import Dict, Iterator, List, Tuple

from pamdi.core.asking import Asking
from pamdi.core.compute import Compute, waiting
from pamdi.core.context import Context
from pamdi.core.holding_back import HoldingBack
from pamdi.core.holdings import Held, Holdings
from pamdi.core.klass import Klass
from pamdi.core.messages import Rtc
from pamdi.core.peers import Peers
from pamdi.core.policy import Waiting
from pamdi.core.room import Room
from pamdi.core.seeking import Group, Seeking
from pamdi.core.segment import Segment
from pamdi.core.slots import Slots
from pamdi.core.work import Key

Front = Tuple[Tuple[float, ...], Key, Group, Held, Waiting]


class Placing:
    def __init__(self, context: Context, holdings: Holdings, slots: Slots, peers: Peers) -> None:
        self._context = context
        self._holdings = holdings
        self._slots = slots
        self._peers = peers
        self._seeking = Seeking()
        self._leaving: Dict[Key, Held] = {}
        self._sought = 0
        self._sought_now: List[Held] = []
        self._looked = 0
        self.klass = Klass(context)
        self.compute = Compute(context, holdings, slots, self.klass, self._outputs_full, self._outputs_left)
        self.room = Room(context, self.compute, slots, peers)
        self.room.unplaced_s = self._unplaced_s
        self.asking = Asking(context, peers, slots, self.compute, self.room, holdings)
        self.holding_back = HoldingBack(context, self.room, slots, peers)

    def seek(self, held: Held) -> None:
        """``held`` needs somebody to run its next segment."""
        self._holdings.move(held, "seeking")
        self._seeking.add(held, self.klass(held))
        self._sought += 1
        self._sought_now.append(held)
        if held.key.boundary > 0:
            self._leaving[held.key] = held

    def go_on(self, held: Held) -> None:
        """``held`` has run a segment here. Where it is plain who runs the next, it needs no round of placing."""
        klass, key = self.klass(held), held.key
        if not (self._is_first(klass) and self.asking.stays(held.model, key.boundary, klass, held.nbytes)):
            self.seek(held)
            return
        segment = self._slots.ready_at(held.model, key.boundary)
        if segment is not None and self._is_alone():
            self.compute.go_on(held, klass, segment)
        else:
            self.compute.enqueue(held, klass)

    def enqueue(self, held: Held) -> None:
        """This device runs it."""
        self._leaving.pop(held.key, None)
        self.compute.enqueue(held, self.klass(held))

    def await_clearance(self, held: Held) -> None:
        """It was asked for early: it goes as soon as its CTC comes."""
        self._holdings.move(held, "asking")
        self._leaving[held.key] = held

    def sent(self, held: Held, peer: str) -> None:
        """Its tensor is on the way to ``peer``."""
        self.asking.done(held.key)
        self._holdings.move(held, "sent", peer)
        if held.key.boundary > 0:
            self._leaving[held.key] = held

    def left(self, held: Held) -> None:
        """It no longer waits here, whatever becomes of it."""
        self._seeking.discard(held.key)
        self._leaving.pop(held.key, None)
        self.compute.drop(held)
        self.asking.withdraw(held.key)

    def forget(self, held: Held) -> None:
        self.left(held)
        if held in self.compute.batch and self.compute.segment is not None:  # give back what was asked early
            self.asking.withdraw(held.key.at(self.compute.segment.stop))
        self._holdings.remove(held)

    def lifted(self, held: Held) -> None:
        """The starvation bound: a work that has become too old moves to its new class."""
        if held.place == "seeking":
            self._seeking.discard(held.key)
            self._seeking.add(held, self.klass(held))
            self._sought += 1
        self.compute.reclass()

    def policy_changed(self) -> None:
        for held in self._holdings.all():
            if held.place == "seeking":
                self._seeking.discard(held.key)
                self._seeking.add(held, self.klass(held))
        self.compute.reclass()

    def back_to_seeking(self, key: Key) -> None:
        """The request for it has come to nothing."""
        held = self._holdings.get(key)
        if held is not None and held.place == "asking":
            self.seek(held)

    def layout_changed(self) -> None:
        """Queued works whose segment has gone seek another place; so do those of a draining one, if they are many."""
        draining: List[Tuple[Held, Segment]] = []
        for held in self.compute.queued():
            segment = self._slots.can_still_run(held.model, held.key.boundary)
            if segment is None:
                self._requeue(held)
            elif self._context.draining or self._slots.is_draining(held.model, held.key.boundary):
                draining.append((held, segment))
        if sum(self._slots.seconds(segment) for _, segment in draining) > self._context.limits.drain_short_s:
            for held, _ in draining:
                if self._peers.can_run(held.model, held.key.boundary):
                    self._requeue(held)

    def rests(self) -> bool:
        """Whether there is nobody to place, and nothing that the executor could start or take."""
        if self._sought_now or self._seeking.where or self.asking.overdue:
            return False
        compute = self.compute
        return compute.running is not None or not (len(compute) or self.asking.anybody())

    def place_all(self) -> None:
        """Place every seeking work that can be placed now: most urgent first, one look per group of equals. Nothing
        is looked at while nothing has changed since the last time."""
        context = self._context
        if self.asking.overdue:
            for key in self.asking.expired():
                self.back_to_seeking(key)
        busy = self.compute.running is not None
        if not self._sought_now and not self._seeking.where and (busy or not self.asking.anybody()):
            return  # as after most events: nobody seeks, and the executor is busy or there is nothing to take
        if context.here + context.there + self._sought == self._looked:  # counts only grow, so their sum will do
            return
        if self._seeking.where:
            self._place_fronts()
        if self._sought_now:
            self._watch_those_left()
        if not busy:
            self._take_when_idle()
        self._looked = context.here + context.there + self._sought

    def ask_early(self, held: Held, segment: Segment) -> None:
        """``held`` has just started ``segment``: if its next place is elsewhere, ask there while it computes."""
        model = self._context.models.get(held.model)
        if model is None or segment.stop >= model.units:
            return
        entering = model.bytes[segment.first] or 1
        nbytes = model.bytes[segment.stop] * max(1, held.nbytes // entering)
        if self.asking.stays(held.model, segment.stop, held.klass, nbytes):
            return
        key = held.key.at(segment.stop)
        if key in self._holdings:
            return
        view = Waiting(key.source, key.id, held.head, key.boundary, held.klass, held.born, continuing=True)
        best = self.asking.best(view, held.model, nbytes)
        if best is not None and best.device != self._context.device:
            self._ask(held, key, best.device, best.compute_s, nbytes, self._slots.seconds(segment))

    def leaves(self) -> Tuple[bool, ...]:
        """Of each work in the air, whether its next place is likely not to be here: its answer is made, another device
        has been asked, or nothing here goes on with it."""
        segment, asking, slots = self.compute.segment, self.asking, self._slots
        if segment is None:
            return ()
        goes_on = slots.ready_at(segment.model, segment.stop) is not None
        return tuple(not goes_on or asking.get(held.key.at(segment.stop)) is not None for held in self.compute.batch)

    def _is_first(self, klass: float) -> bool:
        """Whether a work of this class that goes on here comes before all that seek, or will in this event."""
        if self.asking.overdue:
            return False
        if not self._seeking.where:
            return True
        return not self._context.policy.youngest_first and self._seeking.highest() <= klass

    def _is_alone(self) -> bool:
        """Whether the only work of the last piece is also the only one that could be started, and nothing speaks
        against it: nobody seeks or is queued, no result waits to leave, and nothing is held back."""
        others = self._seeking.where or self._sought_now or self._leaving or len(self.compute)
        return not others and self.compute.ran == 1 and not (self._context.draining or self._context.policy.hold_share)

    def _watch_those_left(self) -> None:
        """Of the works that began to seek in this event: whoever still does may not seek for ever."""
        for held in self._sought_now:
            if held.place == "seeking":
                self._holdings.watch(held)
        self._sought_now = []

    def _place_fronts(self) -> None:
        fronts: List[Front] = []
        for group in self._seeking.groups():
            self._add_front(fronts, group)
        heapify(fronts)
        while fronts:
            _, _, group, held, view = heappop(fronts)
            if self._place(held, view):
                self._add_front(fronts, group)

    def _add_front(self, fronts: List[Front], group: Group) -> None:
        policy = self._context.policy
        key = self._seeking.front(group, policy.youngest_first)
        if key is None or self.asking.nobody(group.model, group.boundary, group.urgency, group.continuing):
            return
        held = self._holdings.get(key)
        if held is not None:
            view = waiting(held, group.urgency)
            heappush(fronts, (policy.rank(view, self._context.now), key, group, held, view))

    def _place(self, held: Held, view: Waiting) -> bool:
        best = self.asking.best(view, held.model, held.nbytes, held.failed_here)
        if best is None:
            return False
        self._seeking.discard(held.key)
        if best.device == self._context.device:
            self.enqueue(held)
        else:
            self._holdings.move(held, "asking")
            self._ask(held, held.key, best.device, best.compute_s, held.nbytes, 0.0)
        return True

    def _ask(self, held: Held, key: Key, peer: str, expected_s: float, nbytes: int, ready_in_s: float) -> None:
        now = self._context.now
        left = None if held.due is None else held.due - now
        number = self.asking.next_number()
        rtc = Rtc(key, held.model, self.klass(held), nbytes, expected_s, now - held.born, left, ready_in_s, number)
        self.asking.ask(peer, rtc)

    def _unplaced_s(self) -> Iterator[Tuple[float, float]]:
        """By class, the seconds that seeking works would take if they stayed. Those that cannot run here are no
        backlog of ours."""
        for group, works in self._seeking.counts():
            seconds = 0.0 if group.failed_here else self._slots.run_seconds(group.model, group.boundary)
            if seconds:
                yield group.urgency, works * seconds

    def _requeue(self, held: Held) -> None:
        self.compute.drop(held)
        self.seek(held)

    def _take_when_idle(self) -> None:
        """Our executor has nothing to do while works of ours wait for others' clearance, or for room that is promised
        to tensors which a slow link has not brought yet: take the first of them. It runs at once, so no promise is
        broken."""
        if not self.compute.idle() or self._context.draining:
            return
        waits: List[Tuple[Tuple[float, ...], Key, Held]] = []
        youngest_first = self._context.policy.youngest_first
        fronts = [self._seeking.front(group, youngest_first) for group in self._seeking.groups()]
        for key in (*self.asking.ungranted(), *fronts):
            held = self._holdings.get(key) if key is not None else None
            if held is not None and held.place in ("asking", "seeking") and not held.failed_here:
                view = waiting(held, self.klass(held))
                if self.asking.may_run_here(view, held.model):
                    waits.append((self._context.policy.rank(view, self._context.now), held.key, held))
        if waits:
            held = min(waits, key=lambda entry: entry[:2])[2]
            self._seeking.discard(held.key)
            self.asking.withdraw(held.key)
            self.enqueue(held)

    def _outputs_full(self, held: Held, segment: Segment) -> bool:
        """Whether too many results at or above this work's class, of this very segment, still wait to leave; or
        whether it stands back for a more urgent one."""
        if self._context.policy.hold_share and self.holding_back.holds(held, segment):
            return True
        return bool(self._leaving) and self._stuck(held, segment) >= self._context.limits.outputs_max

    def _outputs_left(self, held: Held, segment: Segment) -> int:
        """How many works like this one may be started at once: one while a more urgent tensor was promised room and may
        come at any moment; else as many results as may wait to leave. Answers wait for nobody."""
        alone = not self._context.policy.batches_beside_urgent
        if alone and any(entry.rtc.urgency > held.klass for entry in self.room.promised()):
            return 1
        model = self._context.models.get(held.model)
        if model is not None and segment.stop >= model.units:
            return self._context.limits.queue_works_max
        return self._context.limits.outputs_max - self._stuck(held, segment)

    def _stuck(self, held: Held, segment: Segment) -> int:
        klass = self.klass(held)
        stuck = 0
        for other in self._leaving.values():
            if other.key.boundary == segment.stop and other.model == held.model and self.klass(other) >= klass:
                stuck += 1
        return stuck
