"""A device, whole: events in, instructions out, through one door.

``handle(event, now)`` changes the state and returns what should be done, in order; ``wake_at()`` says when to come
back if nothing happens before. Time is an argument, so that the daemon and a simulated world can run the same code,
and a recorded list of events gives the same instructions again.

After every event the device settles: works are placed (most urgent first), room that became free is granted, the
executor is given its next segment, empty draining slots go, and neighbours hear of it. The order matters: an urgent
work that has just arrived is placed before a lower one can be started.
"""

from typing import Any, Callable, Dict, List, Optional, Tuple, Type

from pamdi.core import events as ev
from pamdi.core import messages as ms
from pamdi.core.admitted import Admitted
from pamdi.core.beacons import Beacons
from pamdi.core.compute import Upcoming
from pamdi.core.context import Context
from pamdi.core.errors import ConfigError
from pamdi.core.head import Head
from pamdi.core.holdings import Holdings
from pamdi.core.hops import Hops
from pamdi.core.instructions import AnyInstruction, Send, SetNeighbours, Stopped
from pamdi.core.limits import Limits
from pamdi.core.losses import Losses
from pamdi.core.peers import Peers
from pamdi.core.placing import Placing
from pamdi.core.plausible import complaint
from pamdi.core.remembered import Remembered
from pamdi.core.replay import Replay
from pamdi.core.slots import Slots

INFINITE = float("inf")


class Device:
    """The state of device ``id``. Nothing here may be touched from outside but through ``handle``."""

    def __init__(self, id: str, limits: Optional[Limits] = None) -> None:
        self.context = Context(id, limits or Limits())
        self.holdings = Holdings(self.context)
        self.remembered = Remembered(self.context)
        self.slots = Slots(self.context)
        self.peers = Peers(self.context)
        self.placing = Placing(self.context, self.holdings, self.slots, self.peers)
        self.hops = Hops(self.context, self.holdings, self.remembered, self.slots, self.peers, self.placing)
        self.losses = Losses(self.context, self.holdings, self.slots, self.peers, self.placing, self.hops)
        self.replay = Replay(self.context, self.holdings, self.peers)
        self.head = Head(self.context, self.hops, self.peers, self.replay.watch, self.replay.ended)
        self.replay.head = self.head
        self.beacons = Beacons(self.context, self.slots, self.peers, self.hops.room)
        self._layout = 0
        self._settled = -1
        self._stop_at: Optional[float] = None
        self._stopped = False
        self._on_event = self._event_handlers()
        self._on_message = self._message_handlers()

    def handle(self, event: ev.AnyEvent, now: float) -> List[AnyInstruction]:
        """What to do, in order, now that ``event`` has happened at ``now`` (seconds, monotonic, never backwards)."""
        context = self.context
        assert now >= context.now, (now, context.now)
        context.now, context.out = now, []
        if context.timers.next_at <= now:
            context.timers.fire(now)
        self._on_event[type(event)](event)
        quiet = context.here == self._settled and now < self.beacons.wake_at and self._stop_at is None
        if not (quiet and self.placing.rests()):  # as after three events of four: no step would find anything
            self._settle()
        return context.out

    def upcoming(self) -> Optional[Upcoming]:
        """What is likely to be started after what is in the air: a hint, which changes nothing."""
        return self.placing.compute.upcoming() if self.placing.compute.running is not None else None

    def leaves(self) -> Tuple[bool, ...]:
        """Of each work in the air, whether it is likely to go elsewhere next: a hint, which changes nothing."""
        return self.placing.leaves()

    def wake_at(self) -> Optional[float]:
        """When to call ``handle(Woken(), now)`` if nothing else happens before; None: not at all."""
        at, look_at = self.context.timers.next_at, self.beacons.wake_at
        if look_at < at:
            at = look_at
        return at if at < INFINITE else None

    def _settle(self) -> None:
        """What follows from the event. Each step looks only at what may have changed since it last looked."""
        context, placing, slots = self.context, self.placing, self.slots
        compute = placing.compute
        if self._layout != slots.layout:
            self._layout = slots.layout
            placing.layout_changed()
        placing.place_all()
        if compute.running is None:
            compute.start_next()
        if self._settled != context.here:
            placing.room.grant_parked()
            self._settled = context.here
            if compute.fresh and compute.segment is not None:
                compute.fresh = False
                for held in compute.batch:
                    placing.ask_early(held, compute.segment)
            if slots.draining():
                slots.unload_idle(compute.in_use())
        self.beacons.tell_if_changed()
        if self._stop_at is not None:
            self._stop_if_drained()

    # -- events --------------------------------------------------------------------------------------------------

    def _event_handlers(self) -> Dict[Type[Any], Callable[[Any], None]]:
        head, hops, slots = self.head, self.hops, self.slots
        return {
            ev.Submitted: head.submitted,
            ev.CancelAsked: lambda e: head.cancel(e.work),
            ev.JournalWritten: lambda e: head.journaled(e.work, e.final),
            ev.JournalRefused: lambda e: head.journal_refused(e.work, e.final, e.detail),
            ev.ResultDelivered: lambda e: head.delivered(e.work),
            ev.Restored: head.restored,
            ev.Received: self._received,
            ev.LinkUp: self._link_up,
            ev.LinkDown: self._link_down,
            ev.PeerState: self._peer_state,
            ev.EngineLoaded: lambda e: slots.loaded(e.segment, e.batch_max),
            ev.EngineFailed: lambda e: slots.failed(e.segment, e.reason),
            ev.EngineUnloaded: lambda e: slots.unloaded(e.segment),
            ev.Inferred: hops.inferred,
            ev.InferenceFailed: hops.inference_failed,
            ev.InferredTogether: hops.inferred_together,
            ev.AllocationReceived: self._allocation,
            ev.DrainAsked: self._drain,
            ev.StopAsked: self._stop,
            ev.Woken: lambda e: None,
        }

    def _received(self, event: ev.Received) -> None:
        message = event.message
        if not 0.0 <= event.transit_s < INFINITE or event.nbytes < 0:
            wrong = "impossible measures of its way here"
        elif type(message) is ms.Beacon:  # most of all messages: straight to where it is kept
            wrong = self.peers.heard(event.peer, message)
        else:
            wrong = complaint(message, self.context.limits.promise_s_max)
            if not wrong and event.payload is None and isinstance(message, ms.Tensor):
                wrong = "a tensor without its data"
            if not wrong:
                self._on_message[type(message)](event, message)
        if wrong:
            self._malformed(event, wrong)

    def _malformed(self, event: ev.Received, wrong: str) -> None:
        """Counted and dropped; who waits for a word gets it."""
        message = event.message
        self.context.note("messages_malformed", f"{event.peer} sent a {type(message).__name__} with {wrong}")
        if isinstance(message, ms.Rtc):
            self.context.emit(Send(event.peer, ms.Refusal(message.key, "malformed")))
        elif isinstance(message, ms.Tensor):
            self.context.emit(Send(event.peer, ms.Refusal(message.work.key, "malformed")))

    def _link_up(self, event: ev.LinkUp) -> None:
        peer = event.peer
        if self.peers.is_up(peer):
            self._link_down(ev.LinkDown(peer))
        if self.peers.link_up(peer, event.instance):
            self._died(peer)
        self.losses.only_the_link(peer)
        keys = self.remembered.from_peer(peer)
        for key, passed in keys:  # before the list of what is held, which is taken to mean that the rest is lost
            if passed:
                self.context.emit(Send(peer, ms.PassedOn(key)))
        self.context.emit(Send(peer, ms.Holding(tuple(key for key, passed in keys if not passed))))
        self.beacons.tell(peer)
        self.losses.answers_again(peer)

    def _link_down(self, event: ev.LinkDown) -> None:
        self.peers.link_down(event.peer)
        self.losses.link_lost(event.peer)
        self.context.timers.set(self.context.now + self.context.limits.dead_s, self._verdict, event.peer)
        self._verdict(event.peer)

    def _peer_state(self, event: ev.PeerState) -> None:
        self.peers.said(event.peer, event.state)
        self._verdict(event.peer)

    def _verdict(self, peer: str) -> None:
        if self.peers.is_dead(peer):
            self._died(peer)

    def _died(self, peer: str) -> None:
        """What ``peer`` had is lost: our copies go elsewhere, and our open works are asked for."""
        self.losses.died(peer)
        self.replay.device_died()

    def _allocation(self, event: ev.AllocationReceived) -> None:
        allocation, present = event.allocation, self.context.allocation
        if present is not None and allocation.epoch < present.epoch:
            self.context.note("allocations_stale", f"epoch {allocation.epoch} is older than ours, {present.epoch}")
            return
        try:
            self.context.obey(allocation)
        except ConfigError as error:
            self.context.note("allocations_unusable", f"epoch {allocation.epoch}: {error}")
            return
        self.placing.policy_changed()
        self.peers.set_neighbours(allocation.neighbours)
        self.context.emit(SetNeighbours(allocation.neighbours))
        self.slots.obey(allocation.epoch, allocation.segments)

    def _drain(self, event: ev.DrainAsked) -> None:
        self.context.draining = event.on or self.context.stopping
        self.context.here += 1
        self.beacons.drained()
        self.placing.layout_changed()
        self.slots.publish()

    def _stop(self, event: ev.StopAsked) -> None:
        self.context.stopping = True
        self._drain(ev.DrainAsked())
        self._stop_at = self.context.now + event.within_s
        self.context.timers.set(self._stop_at, self._out_of_time)

    def _stop_if_drained(self) -> None:
        if self._stop_at is None or self._stopped:
            return
        left = self.head.unsaid_count() + self.holdings.unfinished()
        if left == 0 or self.context.now >= self._stop_at:
            self._stopped = True
            self.head.flush_finished(force=True)
            self.context.emit(Stopped(left))

    def _out_of_time(self, _: None) -> None:
        """Only a reason to wake: what is left is left to the journal, and to others."""

    # -- messages ------------------------------------------------------------------------------------------------

    def _message_handlers(self) -> Dict[Type[Any], Callable[[ev.Received, Any], None]]:
        hops = self.hops
        return {
            ms.Rtc: self._rtc,
            ms.Ctc: self._ctc,
            ms.Refusal: self._refusal,
            ms.Revoked: self._revoked,
            ms.Withdrawn: lambda e, m: hops.room.withdrawn(e.peer, m.key),
            ms.Tensor: hops.tensor,
            ms.Taken: lambda e, m: hops.taken(e.peer, m.key),
            ms.PassedOn: lambda e, m: hops.passed_on(e.peer, m.key),
            ms.Answer: self._answer,
            ms.Finished: lambda e, m: hops.ended(m.works),
            ms.Where: self._where,
            ms.Here: lambda e, m: self.replay.heard(e.peer, m),
            ms.Holding: self._holding,
        }

    def _rtc(self, event: ev.Received, rtc: ms.Rtc) -> None:
        if not self.hops.answer_known(event.peer, rtc.key):
            self.hops.room.request(event.peer, rtc)

    def _ctc(self, event: ev.Received, ctc: ms.Ctc) -> None:
        if self.hops.asking.granted(event.peer, ctc.key, ctc.for_s, ctc.backlog, ctc.number):
            self.hops.cleared(event.peer, ctc.key)

    def _refusal(self, event: ev.Received, refusal: ms.Refusal) -> None:
        if self.hops.asking.refused(event.peer, refusal.key, refusal.backlog):
            self.placing.back_to_seeking(refusal.key)
        else:
            self.hops.refused(event.peer, refusal.key)

    def _revoked(self, event: ev.Received, revoked: ms.Revoked) -> None:
        """A tensor that has gone all the same gets an answer of its own."""
        if self.hops.asking.refused(event.peer, revoked.key, revoked.backlog):
            self.placing.back_to_seeking(revoked.key)

    def _answer(self, event: ev.Received, answer: ms.Answer) -> None:
        self.head.answered(answer.work, event.payload, event.nbytes, answer.error, "", event.peer)

    def _where(self, event: ev.Received, where: ms.Where) -> None:
        holding = self.replay.holds(where.work, where.attempt)
        self.context.emit(Send(event.peer, ms.Here(where.work, where.attempt, holding)))
        self.losses.answers_again(event.peer, where.work)

    def _holding(self, event: ev.Received, holding: ms.Holding) -> None:
        self.losses.hand_on_again(event.peer, frozenset(holding.keys))
        ended = sorted({key.work for key in holding.keys if self.remembered.has_ended(key.work)})
        if ended:
            self.context.emit(Send(event.peer, ms.Finished(tuple(ended))))


__all__ = ["Admitted", "Device"]
