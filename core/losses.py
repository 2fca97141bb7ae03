"""What becomes of works when a neighbour is lost, or when a time is up.

A link that goes down voids requests and makes tensors on the way doubtful: both seek again at once. Copies kept for a
neighbour wait for the verdict that it is dead, or for its own word, on reconnect, of what it still holds. A tensor on
its way to a device that died may be what it died of: its work ends at ``attempts_total_max`` such deaths, a high bound,
for most works on their way to a dying device have no part in it.

Every work here has at most one *moment*: the next at which somebody must look at it, wherever it is. A work past its
deadline stops where it is (its head has the same timer, and tells the client); a work that has become too old rises
one class; one that finds nobody at all goes back to its head with the reason; a tensor that nobody speaks of is
placed again; a copy too old is let go, for its head still has the input.
"""

from typing import Dict, FrozenSet, List, Optional

from pamdi.core.context import Context
from pamdi.core.errors import Reason
from pamdi.core.holdings import KEPT, Held, Holdings
from pamdi.core.hops import Hops
from pamdi.core.peers import Peers
from pamdi.core.placing import Placing
from pamdi.core.slots import Slots
from pamdi.core.work import Key, WorkId

NEVER = float("inf")
TIMED = KEPT | {"seeking", "sent"}  # places in which a work may not stay for ever


class Losses:
    def __init__(
        self, context: Context, holdings: Holdings, slots: Slots, peers: Peers, placing: Placing, hops: Hops
    ) -> None:
        self._context = context
        self._holdings = holdings
        self._slots = slots
        self._peers = peers
        self._placing = placing
        self._hops = hops
        self._on_the_way: Dict[str, List[Held]] = {}  # to each neighbour, when its link went down
        holdings.watch, holdings.unwatch = self.watch, self.unwatch

    # -- a neighbour goes or comes -------------------------------------------------------------------------------

    def link_lost(self, peer: str) -> None:
        """Requests are void, tensors on the way may be lost: both seek again. Copies wait for the verdict."""
        self._placing.room.peer_lost(peer)
        for key in self._placing.asking.lost(peer):
            self._placing.back_to_seeking(key)
        on_the_way = self._holdings.with_peer(peer, "sent")
        if on_the_way:
            self._on_the_way[peer] = on_the_way
        for held in on_the_way:
            self._placing.seek(held)

    def only_the_link(self, peer: str) -> None:
        """``peer`` is in reach again, and in the same life."""
        self._on_the_way.pop(peer, None)

    def died(self, peer: str) -> None:
        """``peer`` is dead, or in another life: what it took is lost; what was on its way there may be the cause."""
        self.hand_on_again(peer)
        deaths_max = self._context.limits.attempts_total_max
        for held in self._on_the_way.pop(peer, ()):
            held.deaths += 1
            if held.place in ("seeking", "asking") and held.deaths >= deaths_max:
                detail = f"{held.deaths} devices died while its tensor was on the way to them"
                self._hops.answer(held, Reason.ATTEMPTS.value, detail)

    def hand_on_again(self, peer: str, keys: Optional[FrozenSet[Key]] = None) -> None:
        """``peer`` is dead, or holds only ``keys`` of what it took from us: the rest goes elsewhere."""
        for held in self._holdings.with_peer(peer, "backup"):
            if keys is None or held.key not in keys:
                self._context.note("works_resent", f"{held.key.work} is handed on again: {peer} lost it")
                self._hops.again(held, f"lost by {peer}")

    def answers_again(self, head: str, work: Optional[WorkId] = None) -> None:
        """The link to a head is open, or it asks: answers it may not have go once more."""
        held_here = self._holdings.with_peer(head, "answering") if work is None else self._holdings.of(work)
        for held in held_here:
            if held.place == "answering" and held.peer == head:
                self._hops.send_answer(held)

    # -- a time is up --------------------------------------------------------------------------------------------

    def watch(self, held: Held) -> None:
        """``held`` has just come, or moved to another place."""
        at = held.since + self._patience_s(held) if held.place in TIMED else NEVER
        if held.due is not None and held.head != self._context.device:
            at = min(at, held.due)
        if held.age_s_max is not None and self._context.now < held.born + held.age_s_max:
            at = min(at, held.born + held.age_s_max)
        if at < NEVER:
            held.timed = True
            self._context.timers.set(at, self._look, held)
        elif held.timed:
            self.unwatch(held)

    def unwatch(self, held: Held) -> None:
        if held.timed:
            held.timed = False
            self._context.timers.drop(self._look, held)

    def _patience_s(self, held: Held) -> float:
        """Seconds that a work may stay where it is before somebody must look."""
        limits = self._context.limits
        if held.place in KEPT:
            return limits.backup_s
        if held.place == "seeking":
            return limits.no_route_s
        if held.place == "sent":  # behind all that is on the way there; the link half as fast, twice as late as usual
            transfer_s = self._peers.transfer_s(held.peer, self._holdings.sent_bytes(held.peer))
            return limits.resend_s + 2 * (transfer_s + self._peers.lag.seconds)
        return NEVER

    def _look(self, held: Held) -> None:
        held.timed, now = False, self._context.now
        if held.due is not None and held.head != self._context.device and now >= held.due:
            self._context.note("works_expired_here")
            self._placing.forget(held)
            return
        if held.age_s_max is not None and now >= held.born + held.age_s_max:
            self._placing.lifted(held)
        if now < held.since + self._patience_s(held):
            self.watch(held)
        elif held.place == "seeking":
            self._no_route(held)
        elif held.place == "sent":
            self._peers.lag.overdue()
            self._context.note("tensors_unanswered", f"{held.peer} says nothing of {held.key.work}: it is placed again")
            self._placing.seek(held)
        elif held.place in KEPT:
            self._context.note("backups_expired")
            self._hops.let_go(held)
            self._placing.forget(held)

    def _no_route(self, held: Held) -> None:
        boundary = held.key.boundary
        if self._slots.ready_at(held.model, boundary) is not None or self._peers.can_run(held.model, boundary):
            held.since = self._context.now
            self.watch(held)
        else:
            detail = f"no device in reach holds unit {boundary} of {held.model}"
            self._hops.answer(held, Reason.NO_ROUTE.value, detail)
