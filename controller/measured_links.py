"""What the devices find their links to be, taken into the fleet that is planned for.

Each device probes its links and tells in its statistics (``daemon/probe.py``). A link is held against what it was
planned with by the seconds of one tensor over it: delay + bytes / rate, the bytes being the models' mean across a
boundary. When that counts, and for how long it must have lasted, is ``lasting.py``'s, as for slow devices.

- A link that a [[link]] or [[mesh]] states is planned with as measured only while it is *slower* than stated. Stated is
  an upper bound: it may be a limit that somebody wants kept (a line that others share, or that is paid by the byte),
  and to believe in too fast a link costs more than to believe in too slow a one.
- A link that nothing but ``default_rate_bytes_per_s`` states was a guess: what is measured replaces it, faster or
  slower, once it has been heard for the delay. Only what is beyond the factor makes a new plan.
- A link of a shared medium is left as stated: a probe there finds what the other links of the medium leave, and the
  plan counts their load already; it would be counted twice.
- Where no link is stated and there is no default, there is none, and nothing is probed.

Differences below a millisecond never count: that is the grain of timers. A measurement counts when the device has
probed since the last one; after ``slow_forget_s`` without any, what was stated is believed again. Pure: time is an
argument.
"""

from operator import itemgetter
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

import msgspec

from pamdi.client.device_stats import Probed, Recent
from pamdi.controller.fleet import Fleet, LinkEntry, ModelEntry
from pamdi.controller.kept import KeptLink
from pamdi.controller.lasting import Lasting, wished
from pamdi.controller.network import Network
from pamdi.controller.slowed import Terms

NOTICED_S = 0.001
AGE_EVERY_S = 1.0
RATE_MAX, DELAY_S_MAX = 1e12, 3600.0  # beyond is nonsense, and must not decide anything
KEPT_MAX = 1000  # of those that are not as stated, over a restart of the controller
LINKS_MAX = 100_000  # remembered: 1,000 devices with a hundred neighbours each

Pair = Tuple[str, str]  # from, to


class Figures(NamedTuple):
    rate_bytes_per_s: float
    delay_s: float

    def seconds(self, nbytes: float) -> float:
        return self.delay_s + nbytes / self.rate_bytes_per_s

    def sentence(self) -> str:
        return f"{self.rate_bytes_per_s / 1e6:.3g} MB/s, {self.delay_s * 1e3:.3g} ms"


class Stated(NamedTuple):
    """What the configuration says of a link. ``guess``: only the default does."""

    figures: Figures
    guess: bool


State = Callable[[str, str], Optional[Stated]]


class _Watched:
    """One direction. ``planned``: what it is planned with, None: as stated."""

    def __init__(self, stated: Stated) -> None:
        self.stated = stated
        self.planned: Optional[Figures] = None
        self.noted = False  # beyond the factor, so that people are told
        self.rounds = -1
        self.lasting = Lasting()

    def heard(self, found: Figures, rounds: int, nbytes: float, now: float, terms: Terms) -> str:
        """What has become of ``planned``: "slower", "better", "normal", "known"; empty: nothing."""
        if rounds == self.rounds:
            return ""
        self.rounds = rounds
        wish = self._wished(found, nbytes, terms)
        if not self.lasting.lasts(wish, now, terms.slow_delay_s, terms.slow_forget_s):
            return ""
        self.planned = None if wish == "normal" else found
        self.noted = wish in ("slower", "better")
        return wish

    def age(self, now: float, terms: Terms) -> bool:
        """Whether ``planned`` has gone: nobody has measured for too long, or nobody wants to know any more."""
        if self.lasting.heard_at == float("-inf"):  # known from a former life: the wait begins now
            self.lasting.heard_at = now
        if self.planned is None or (terms.slow_factor and now < self.lasting.heard_at + terms.slow_forget_s):
            return False
        self.planned, self.noted = None, False
        self.lasting.forget()
        return True

    def _wished(self, found: Figures, nbytes: float, terms: Terms) -> str:
        stated_s, found_s = self.stated.figures.seconds(nbytes), found.seconds(nbytes)
        planned_s = (self.planned or self.stated.figures).seconds(nbytes)
        near = abs(found_s - planned_s) < NOTICED_S
        if not self.stated.guess:
            planned = 1.0 if self.planned is None else planned_s / stated_s
            wish = wished(found_s / stated_s, planned, terms.slow_factor, terms.normal_factor)
            return "" if near and wish != "normal" else wish
        if not near and found_s > planned_s * terms.slow_factor:
            return "slower"
        if not near and found_s * terms.slow_factor < planned_s:
            return "better"
        return "known" if self.planned is None else ""


class MeasuredLinks:
    """All links of the fleet, by direction. ``kept``: what a former life of the controller knew."""

    def __init__(self, kept: Iterable[KeptLink] = ()) -> None:
        self._watched: Dict[Pair, _Watched] = {}
        self._aged_at = float("-inf")
        for link in kept:
            stated = Stated(Figures(link.stated_rate_bytes_per_s, link.stated_delay_s), link.guess)
            watched = self._watched[link.a, link.b] = _Watched(stated)
            watched.planned, watched.noted = Figures(link.rate_bytes_per_s, link.delay_s), True

    def kept(self) -> Tuple[KeptLink, ...]:
        """The links that are not as stated, for a later life."""
        noted = [(pair, w.planned, w.stated) for pair, w in self._watched.items() if w.noted and w.planned is not None]
        return tuple(
            KeptLink(*pair, *planned, *stated.figures, guess=stated.guess)
            for pair, planned, stated in sorted(noted)[:KEPT_MAX]
        )

    def heard(
        self, device: str, links: Mapping[str, Probed], state: State, nbytes: float, now: float, terms: Terms
    ) -> List[Pair]:
        """What ``device`` tells of its links. Returns those that a new plan should be made for. ``nbytes``: of a
        tensor."""
        changed: List[Pair] = []
        for peer, link in links.items() if terms.slow_factor else ():
            stated = state(device, peer)
            watched = None if stated is None else self._watch((device, peer), stated)
            found = None if watched is None else _figures(link.recent, watched)
            if watched is None or found is None:
                continue
            became = watched.heard(found, link.recent.rounds, nbytes, now, terms)
            if became not in ("", "known"):
                changed.append((device, peer))
        return changed

    def age(self, now: float, terms: Terms) -> List[Pair]:
        """The links that are as stated again. Looked at once a second: there may be thousands."""
        if now < self._aged_at + AGE_EVERY_S:
            return []
        self._aged_at = now
        return [pair for pair, watched in self._watched.items() if watched.age(now, terms)]

    def elsewhere(self, device: str) -> None:
        """``device`` has another address: its links are others."""
        for pair in [pair for pair in self._watched if device in pair]:
            del self._watched[pair]

    def planned(self, state: State) -> Dict[Pair, Figures]:
        """Of the links that are planned with as measured. What has been stated anew since is as stated."""
        found = {}
        for (a, b), watched in self._watched.items():
            if watched.planned is not None and watched.stated == state(a, b):
                found[a, b] = watched.planned
        return found

    def conditions(self, state: State) -> List[str]:
        """A line for each link that is not what was stated, with the cure."""
        noted = [(pair, watched) for pair, watched in self._watched.items() if watched.noted]
        return [
            f"link {a} -> {b} carries {watched.planned.sentence()}, {_instead(watched.stated)}"
            for (a, b), watched in sorted(noted, key=itemgetter(0))
            if watched.planned is not None and watched.stated == state(a, b)
        ]

    def _watch(self, pair: Pair, stated: Stated) -> Optional[_Watched]:
        watched = self._watched.get(pair)
        if watched is None and len(self._watched) >= LINKS_MAX:
            return None
        if watched is None or watched.stated != stated:
            watched = self._watched[pair] = _Watched(stated)
        return watched


def _instead(stated: Stated) -> str:
    if stated.guess:
        return f"not the {stated.figures.sentence()} of links that no [[link]] names, and is planned with so"
    return (
        f"[[link]] or [[mesh]] states {stated.figures.sentence()}, and is planned with so: look at the network, or "
        "state what `pamdi calibrate links` finds"
    )


def _figures(recent: Recent, watched: _Watched) -> Optional[Figures]:
    """A link that is never idle tells its rate alone; its delay is then taken to be what it was."""
    rate, delay_s = recent.rate_bytes_per_s, recent.delay_s
    if delay_s is None:
        delay_s = (watched.planned or watched.stated.figures).delay_s
    if rate is None or not (0 < rate < RATE_MAX and 0 <= delay_s < DELAY_S_MAX):
        return None
    return Figures(rate, delay_s)


def stated_by(network: Network, default: Optional[Tuple[float, float]]) -> State:
    """``network``: of the links and meshes of the configuration, without the default. None: not to be measured."""

    def state(a: str, b: str) -> Optional[Stated]:
        link = network.link(a, b)
        if link is None:
            return None if default is None or a == b else Stated(Figures(*default), True)
        if link.server[0] == "medium":
            return None
        return Stated(Figures(link.rate_bytes_per_s, link.delay_s), False)

    return state


def tensor_bytes(models: Iterable[ModelEntry]) -> float:
    """The mean over all boundaries of all models, what enters and what leaves apart. At least a frame's."""
    inner = [nbytes for model in models for nbytes in (model.bytes[1:-1] or model.bytes)]
    return max(1024.0, sum(inner) / len(inner)) if inner else 1024.0


def with_measured(fleet: Fleet, planned: Mapping[Pair, Figures]) -> Fleet:
    """``fleet`` with a one-way link of its own for each pair of ``planned`` that has one; the chance to fail stays."""
    network = Network(fleet)
    known = {device.id for device in fleet.device}
    measured: Dict[Pair, LinkEntry] = {}
    for (a, b), figures in sorted(planned.items()):
        link = network.link(a, b) if a in known and b in known else None
        if link is not None:
            measured[a, b] = LinkEntry(a, b, *figures, fail_probability=link.fail_probability, one_way=True)
    if not measured:
        return fleet
    kept = [part for link in fleet.link for part in _without(link, measured)]
    return msgspec.structs.replace(fleet, link=[*kept, *measured.values()])


def _without(link: LinkEntry, measured: Mapping[Pair, Any]) -> List[LinkEntry]:
    """What is left of ``link`` beside ``measured``: both directions, one, or none."""
    ways = [(link.from_, link.to)] + ([] if link.one_way else [(link.to, link.from_)])
    left = [way for way in ways if way not in measured]
    if len(left) == len(ways):
        return [link]
    return [msgspec.structs.replace(link, from_=a, to=b, one_way=True) for a, b in left]
