"""The asking side of RTC / CTC: which worker next, asked early, and the next best when it says no.

While a segment computes, the RTC for the one after it is already in the air if another device looks best for it; at
the end of the segment the choice is made again with what is known then, unless room was granted. A request has one
of three ends: a CTC (the tensor goes), a refusal or silence (that worker is not asked again for a moment, and the
next best is, this device included), or the work finds room here first and the request is withdrawn.
"""

from typing import Dict, List, Optional

import msgspec
from msgspec.structs import replace

from pamdi.core.ahead import Ahead
from pamdi.core.compute import Compute
from pamdi.core.context import Context
from pamdi.core.holdings import Holdings
from pamdi.core.instructions import Send
from pamdi.core.messages import Backlog, Rtc, Withdrawn
from pamdi.core.peers import Peers
from pamdi.core.policy import Candidate, Waiting
from pamdi.core.room import Room
from pamdi.core.slots import Slots
from pamdi.core.work import Key

ROUNDING_S = 1e-9  # of ages up to months


class Ask(msgspec.Struct, frozen=True, gc=False):
    """An RTC of ours: ``granted`` once its CTC has come; void after ``until``."""

    peer: str
    model: str
    urgency: float
    until: float
    granted: bool
    number: int
    nbytes: int


class Asking:
    def __init__(
        self, context: Context, peers: Peers, slots: Slots, compute: Compute, room: Room, holdings: Holdings
    ) -> None:
        self._context = context
        self._peers = peers
        self._slots = slots
        self._compute = compute
        self._room = room
        self._holdings = holdings
        self._ahead = Ahead(context, peers, slots)
        self._asks: Dict[Key, Ask] = {}
        self.overdue = False  # whether ``expired`` has something to look at
        self._number = 0

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def get(self, key: Key) -> Optional[Ask]:
        return self._asks.get(key)

    def anybody(self) -> bool:
        """Whether any request is in the air or granted."""
        return bool(self._asks)

    def best(self, work: Waiting, model: str, nbytes: int, not_here: bool = False) -> Optional[Candidate]:
        """The worker that the policy picks for the segment after ``work.boundary``, or None if nobody can be asked, or
        if it is best to wait until there is room here. ``not_here``: this device is the last resort."""
        policy = self._context.policy
        candidates = [] if not_here else self._here(work, model)
        if self._may_ask(model, work.boundary, work.urgency):
            candidates += self._elsewhere(work, model, nbytes)
        if not candidates and not_here:
            candidates = self._here(work, model)
        if not candidates:
            return None
        if policy.looks_ahead:
            candidates = self._ahead.look(candidates, model, work.boundary, work.head)
        best = policy.pick(work, candidates, self._context.now) if len(candidates) > 1 else candidates[0]
        waits = policy.patient and best.device == self._context.device and not self._room_here(work, model)
        return None if waits else best

    def stays(self, model: str, boundary: int, klass: float, nbytes: int) -> bool:
        """Whether ``best`` is sure to pick this device for a work that goes on here, since no neighbour would be as
        quick, idle as it may be. Most works are where this is so, and it is a small part of the whole question. (By
        more than rounding: equals are for the policy to choose from.)"""
        policy = self._context.policy
        seconds = self._slots.ready_seconds(model, boundary)
        if seconds is None or policy.looks_ahead or policy.binds:
            return False
        here_s = seconds + self._room.ahead_s(klass, continuing=True)
        return here_s + ROUNDING_S < self._peers.quickest_s((model, boundary), nbytes)

    def nobody(self, model: str, boundary: int, urgency: float, continuing: bool) -> bool:
        """Whether ``best`` is sure to find nobody: a cheap look before a work is compared with others."""
        if self._may_ask(model, boundary, urgency):
            return False
        return self._slots.ready_at(model, boundary) is None or not (
            continuing or self._room.has_room(urgency, model, boundary)
        )

    def ask(self, peer: str, rtc: Rtc) -> None:
        until = self._context.now + self._context.limits.ask_s + rtc.ready_in_s
        self._asks[rtc.key] = Ask(peer, rtc.model, rtc.urgency, until, False, rtc.number, rtc.nbytes)
        self._peers.promise(peer, rtc.key, rtc.urgency, rtc.expected_s)
        self._context.timers.set(until, self._expire, rtc.key)
        self._context.emit(Send(peer, rtc))

    def granted(self, peer: str, key: Key, for_s: float, backlog: Backlog, number: int = 0) -> bool:
        """Returns whether this CTC is for a request that still stands; if not, it is given back."""
        self._answered(peer, key, backlog)
        ask = self._asks.get(key)
        if ask is None or ask.peer != peer:
            self._context.emit(Send(peer, Withdrawn(key)))
            return False
        if number not in (0, ask.number):
            return False  # a late copy of an older one: this request will have its own answer
        # The promise runs on the granter's clock; half of it is ours to rely on, whatever the way back took.
        until = self._context.now + for_s / 2
        self._asks[key] = Ask(peer, ask.model, ask.urgency, until, True, ask.number, ask.nbytes)
        self._context.timers.set(until, self._expire, key)
        return True

    def refused(self, peer: str, key: Key, backlog: Backlog) -> bool:
        """A refusal, or a promise taken back. Returns whether the request stood."""
        self._answered(peer, key, backlog)
        ask = self._asks.get(key)
        if ask is None or ask.peer != peer:
            return False
        self._close(key)
        self._peers.avoid(peer, ask.urgency)
        return True

    def done(self, key: Key) -> None:
        """The tensor has gone to who granted it, or is there already."""
        if key in self._asks:
            self._close(key)

    def withdraw(self, key: Key) -> None:
        """The work is placed otherwise, or has ended."""
        if key in self._asks:
            ask = self._close(key)
            self._context.emit(Send(ask.peer, Withdrawn(key)))

    def lost(self, peer: str) -> List[Key]:
        """The link to ``peer`` is down: the keys of the requests that went with it."""
        keys = [key for key, ask in self._asks.items() if ask.peer == peer]
        for key in keys:
            self._close(key)
        return keys

    def ungranted(self) -> List[Key]:
        """The keys of requests in the air that nobody has cleared yet."""
        return [key for key, ask in self._asks.items() if not ask.granted]

    def expired(self) -> List[Key]:
        """Requests whose time is up, each given back to its peer, which is then avoided for a moment."""
        self.overdue, now = False, self._context.now
        keys = [key for key, ask in self._asks.items() if ask.until <= now]
        for key in keys:
            ask = self._asks[key]
            self.withdraw(key)
            self._peers.avoid(ask.peer, ask.urgency)
            self._context.note("rtc_unanswered")
        return keys

    def may_run_here(self, work: Waiting, model: str) -> bool:
        return self._slots.ready_at(model, work.boundary) is not None and self._allows(work, self._context.device)

    def _here(self, work: Waiting, model: str) -> List[Candidate]:
        """This device, if it may be picked."""
        context, policy = self._context, self._context.policy
        segment = self._slots.ready_at(model, work.boundary)
        if segment is None or (policy.binds and not self._allows(work, context.device)):
            return []
        if not (work.continuing or policy.patient or self._room_here(work, model)):
            return []
        backlog_s = self._room.ahead_s(work.urgency, work.continuing)
        return [Candidate(context.device, 0.0, self._slots.seconds(segment), backlog_s)]

    def _room_here(self, work: Waiting, model: str) -> bool:
        return work.continuing or self._room.has_room(work.urgency, model, work.boundary)

    def _elsewhere(self, work: Waiting, model: str, nbytes: int) -> List[Candidate]:
        policy, urgency = self._context.policy, work.urgency
        leaving_s = self._leaving_s(urgency) if policy.weighs_links else 0.0
        found = self._peers.candidates((model, work.boundary), urgency, nbytes, leaving_s)
        if policy.binds:
            found = [c for c in found if self._allows(work, c.device)]
        price = policy.transfer_price
        if price != 1.0 and self._context.urgency_above(urgency) > urgency:
            found = [replace(c, transfer_s=price * c.transfer_s) for c in found]
        return found

    def _leaving_s(self, urgency: float) -> float:
        """Seconds until our own tensors at or above this class, sent or asked for, will have left: a device has one
        radio, or one cable, whoever they are for."""
        seconds = 0.0
        for peer in self._peers.linked():
            nbytes = self._holdings.sent_bytes(peer, urgency)
            if nbytes:
                seconds += self._peers.transfer_s(peer, nbytes)
        for ask in self._asks.values():
            if ask.urgency >= urgency and self._peers.is_up(ask.peer):
                seconds += self._peers.transfer_s(ask.peer, ask.nbytes)
        return seconds

    def _allows(self, work: Waiting, device: str) -> bool:
        allocation = self._context.allocation
        routes = allocation.routes if allocation is not None else {}
        return self._context.policy.may_take(work, device, self._context.device, routes)

    def _may_ask(self, model: str, boundary: int, urgency: float) -> bool:
        """Whether few enough requests are in the air, or none for a place between two segments: a result that waits
        there keeps a segment from running, and those in the air may wait for just that one."""
        if len(self._asks) < self._context.limits.asks_max:
            return True
        unanswered, here = 0, False
        for key, ask in self._asks.items():
            if not ask.granted and ask.urgency >= urgency:
                unanswered += 1
                here = here or (key.boundary == boundary and ask.model == model)
        return unanswered < self._context.limits.asks_max or (boundary > 0 and not here)

    def _answered(self, peer: str, key: Key, backlog: Backlog) -> None:
        self._peers.settle(peer, key)
        self._peers.backlog_is(peer, backlog)

    def _close(self, key: Key) -> Ask:
        ask = self._asks.pop(key)
        self._peers.settle(ask.peer, key)
        self._context.timers.drop(self._expire, key)
        return ask

    def _expire(self, key: Key) -> None:
        """``expired`` does the work, in the round that follows every event."""
        self.overdue = True
