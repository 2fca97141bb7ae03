"""What this device knows of its neighbours: links, lives, what they can run, what waits there, who is suspect.

A will alone means *suspect*: no new works go there. *Dead* means a silent link that no new life of the peer has
reopened within ``dead_s``, or a silent link and a will: what was handed there is handed on again.
"""

from typing import Dict, List, Optional, Tuple

import msgspec

from pamdi.core.allocation import Neighbour
from pamdi.core.context import Context
from pamdi.core.lag import Lag
from pamdi.core.messages import Backlog, Beacon, ReadySegment
from pamdi.core.plausible import complaint_of_backlog, complaint_of_segments
from pamdi.core.policy import Candidate

INFINITE = float("inf")
Place = Tuple[str, int]  # model, boundary


class Peer:
    """One neighbour. ``promised``: seconds of our own works asked of it that its backlog does not show yet.
    ``ahead_s``: what its backlog means to a newcomer, for the classes in which that has been asked."""

    __slots__ = (
        "ahead_s", "avoid", "backlog", "beacon", "delay_s", "down_since", "draining", "heard_at", "instance",
        "promised", "rate_bytes_per_s", "ready", "state", "up",
    )  # fmt: skip

    def __init__(self) -> None:
        self.up = False
        self.instance = 0
        self.down_since: Optional[float] = None
        self.state = "online"
        self.beacon: Optional[Beacon] = None
        self.draining = False
        self.ready: Dict[Place, Tuple[int, float]] = {}
        self.backlog = Backlog()
        self.ahead_s: Dict[float, float] = {}
        self.heard_at = 0.0
        self.promised: Dict[object, Tuple[float, float]] = {}
        self.avoid: List[Tuple[float, float]] = []
        self.rate_bytes_per_s = 1e9
        self.delay_s = 0.0


class Runner(msgspec.Struct, frozen=True, gc=False):
    """A neighbour that runs the segment at some place, and what of its cost does not depend on what waits there."""

    id: str
    peer: Peer
    transfer_s: float
    compute_s: float


class Runners(msgspec.Struct, frozen=True, gc=False):
    """All of them, by name, for tensors of ``nbytes``. ``quickest_s``: what the nearest would take, idle."""

    nbytes: int
    all: Tuple[Runner, ...]
    quickest_s: float


class Peers:
    """``layout`` counts changes of who is in reach, over what link, and holds what. ``lag``: by how much tensors to and
    from all of them come late."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._peers: Dict[str, Peer] = {}
        self._linked: List[str] = []
        self._up: List[Tuple[str, Peer]] = []
        self._runners: Dict[Place, Runners] = {}
        self.layout = 0
        self.lag = Lag(context.limits)

    def get(self, id: str) -> Peer:
        if id not in self._peers:
            self._peers[id] = Peer()
        return self._peers[id]

    def set_neighbours(self, neighbours: Tuple[Neighbour, ...]) -> None:
        for neighbour in neighbours:
            peer = self.get(neighbour.id)
            peer.rate_bytes_per_s, peer.delay_s = neighbour.rate_bytes_per_s, neighbour.delay_s
        self._runners.clear()
        self.layout += 1

    def linked(self) -> List[str]:
        """Whom we can talk to, by name. Not to be changed by the caller."""
        return self._linked

    def is_up(self, id: str) -> bool:
        return id in self._peers and self._peers[id].up

    def is_dead(self, id: str) -> bool:
        """Whether what was handed to ``id`` should be handed on again."""
        peer = self.get(id)
        if peer.up or peer.down_since is None:
            return False
        return peer.state != "online" or self._context.now >= peer.down_since + self._context.limits.dead_s

    def link_up(self, id: str, instance: int) -> bool:
        """Returns whether this is another life of the peer than the one we knew."""
        peer = self.get(id)
        another = peer.instance not in (0, instance)
        peer.up, peer.down_since, peer.instance, peer.state = True, None, instance, "online"
        peer.promised.clear()
        peer.avoid.clear()
        self._changed()
        return another

    def link_down(self, id: str) -> None:
        peer = self.get(id)
        if peer.up:
            peer.up, peer.down_since = False, self._context.now
        peer.beacon, peer.ready = None, {}
        peer.promised.clear()
        self._changed()

    def said(self, id: str, state: str) -> None:
        """The word of ``id``'s retained state topic."""
        self.get(id).state = state
        self._runners.clear()
        self._context.there += 1

    def heard(self, id: str, beacon: Beacon) -> str:
        """``id`` sent a beacon. Returns what is wrong with it, or "". Since its link came up it hardly ever says
        anything new of what is ready: the same segments need no second look."""
        peer, ready, backlog = self._peers.get(id), beacon.ready, beacon.backlog
        known = peer.beacon if peer is not None else None
        changed = known is None or (ready is not known.ready and ready != known.ready)
        wrong = (complaint_of_segments(ready) if changed else "") or complaint_of_backlog(backlog)
        if wrong:
            return wrong
        if peer is None or not peer.up or beacon.device != id:
            return ""  # a retained or late word of somebody we cannot reach anyway
        if changed:
            peer.ready = _runs(ready)
            self._runners.clear()
            self.layout += 1
        if beacon.draining != peer.draining:
            peer.draining = beacon.draining
            self._runners.clear()
        peer.beacon, peer.backlog, peer.heard_at = beacon, backlog, self._context.now
        if peer.avoid:
            peer.avoid.clear()
        if peer.ahead_s:
            peer.ahead_s = {}
        self._context.there += 1
        return ""

    def backlog_is(self, id: str, backlog: Backlog) -> None:
        """A word of ``id`` about a work of ours said so."""
        peer = self.get(id)
        peer.backlog, peer.heard_at, peer.ahead_s = backlog, self._context.now, {}
        self._context.there += 1

    def promise(self, id: str, name: object, urgency: float, seconds: float) -> None:
        """A work of ours may go there: its seconds count until the peer's own backlog shows them."""
        self.get(id).promised[name] = (urgency, seconds)

    def settle(self, id: str, name: object) -> None:
        """The peer has answered for ``name``, or it no longer goes there."""
        self.get(id).promised.pop(name, None)
        self._context.there += 1

    def quickest_s(self, place: Place, nbytes: int) -> float:
        """D and W * c of the neighbour that would be the first to have run the segment at ``place``, were all of them
        idle; infinite if none holds it."""
        return self._runners_of(place, nbytes).quickest_s

    def candidates(self, place: Place, urgency: float, nbytes: int, leaving_s: float) -> List[Candidate]:
        """Who may be asked for the segment that starts at ``place``, by name: D of the link as it is calibrated and
        ``leaving_s`` on top, W * c as the peer says it, and Q as far as we know now.

        What was reported of Q shrinks as time goes by, since the peer works on it; what we promised it since is added.
        """
        now, found = self._context.now, []
        for runner in self._runners_of(place, nbytes).all:
            peer = runner.peer
            if peer.avoid and self._is_avoided(peer, urgency):
                continue
            ahead_s = peer.ahead_s.get(urgency)
            if ahead_s is None:
                ahead_s = peer.ahead_s[urgency] = peer.backlog.ahead_of(urgency)
            waits_s = ahead_s - (now - peer.heard_at)
            if waits_s < 0.0:
                waits_s = 0.0
            if peer.promised:
                for klass, seconds in peer.promised.values():
                    if klass >= urgency:
                        waits_s += seconds
            found.append(Candidate(runner.id, runner.transfer_s + leaving_s, runner.compute_s, waits_s))
        return found

    def can_run(self, model: str, boundary: int) -> bool:
        """Whether anybody in reach holds the segment that starts at ``boundary``, busy or not."""
        return any((model, boundary) in self._peers[id].ready for id in self._linked)

    def ready_at(self, id: str, model: str, boundary: int) -> Optional[Tuple[int, float]]:
        """Where the segment of ``id`` that starts at ``boundary`` stops, and its seconds there."""
        return self.get(id).ready.get((model, boundary))

    def transfer_s(self, id: str, nbytes: int) -> float:
        """D: seconds for ``nbytes`` over the link as it is calibrated."""
        peer = self.get(id)
        return nbytes / peer.rate_bytes_per_s + peer.delay_s

    def avoid(self, id: str, urgency: float) -> None:
        """``id`` refused a work of this class: for a moment it is not asked for that class or a lower one, unless it
        says something new."""
        until = self._context.now + self._context.limits.avoid_s
        peer = self.get(id)
        peer.avoid = [(t, u) for t, u in peer.avoid if t > self._context.now]
        peer.avoid.append((until, urgency))
        self._context.timers.set(until, self._ask_again, id)
        self._context.there += 1

    def _runners_of(self, place: Place, nbytes: int) -> Runners:
        runners = self._runners.get(place)
        if runners is None or runners.nbytes != nbytes:
            runners = self._runners[place] = self._find_runners(place, nbytes)
        return runners

    def _find_runners(self, place: Place, nbytes: int) -> Runners:
        found = []
        for id, peer in self._up:
            run = peer.ready.get(place)
            if run is not None and not peer.draining and peer.state == "online":
                found.append(Runner(id, peer, nbytes / peer.rate_bytes_per_s + peer.delay_s, run[1]))
        quickest_s = min((runner.transfer_s + runner.compute_s for runner in found), default=INFINITE)
        return Runners(nbytes, tuple(found), quickest_s)

    def _is_avoided(self, peer: Peer, urgency: float) -> bool:
        return any(until > self._context.now and urgency <= klass for until, klass in peer.avoid)

    def _ask_again(self, id: str) -> None:
        self._context.there += 1

    def _changed(self) -> None:
        self._up = sorted((id, peer) for id, peer in self._peers.items() if peer.up)
        self._linked = [id for id, _ in self._up]
        self._runners.clear()
        self.layout += 1
        self._context.there += 1


def _runs(ready: Tuple[ReadySegment, ...]) -> Dict[Place, Tuple[int, float]]:
    """Where the segment that starts at each place stops, and its seconds: the shortest one, where several start."""
    runs = {(segment.model, segment.first): (segment.stop, segment.seconds) for segment in reversed(ready)}
    if len(runs) < len(ready):
        for segment in ready:
            at = (segment.model, segment.first)
            if segment.stop < runs[at][0]:
                runs[at] = (segment.stop, segment.seconds)
    return runs
