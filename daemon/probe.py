"""What a link can carry: now and then a small and a large probe, echoed; the difference in time is the large one's way.

    delay = the small one's round trip / 2        rate = bytes between the two / time between the two

Both by the smallest times of the last few rounds: whatever else happens to a probe (a busy loop, a busy machine, a work
that goes first) only ever makes it later. But a small one that is late makes the difference small, and the link fast:
it is taken away only where nothing else moved while it was under way, *in either direction*, for its echo comes behind
what the peer sends, such as the peer's own large probe. Where there is no such one, nothing is taken away, and the rate
is at least what is said. Rounds with other traffic leaving are kept apart, as what is left beside the works: their
median.

A probe never goes before a work: its urgency is 0, below every class, and at each frame the more urgent message goes
first. It never takes more than a stated share of the link's time: after a round that took t seconds, the next waits
t / share. Its size is bounded, and grows only until it takes long enough to be told from the timer's grain; before a
large probe goes the smallest large one, so that a link that has become slow meanwhile is not asked for more than it can
carry in a moment. A peer that knows no probes never echoes; its rounds end after ECHO_S_MAX and cost next to nothing.

Two answers: of the last 16 rounds, for ``pamdi calibrate links``, and of the last few (``sightings.py``), for the
controller, which plans with them.
"""

import asyncio
import random
from collections import deque
from statistics import median
from typing import Any, Callable, Deque, Dict, Iterable, Mapping, NamedTuple, Optional, Protocol

import msgspec

from pamdi.core import messages as ms
from pamdi.daemon.sightings import RECENT, Sighting, rate_and_delay

URGENCY = 0.0  # gamma times alpha of every source is above it
SMALL_BYTES = 64
LARGE_BYTES_MIN, LARGE_BYTES_MAX = 64 * 1024, 1024 * 1024
LONG_ENOUGH_S = 0.05  # a probe that takes so long is large enough
FORESEEN_S_MAX = 0.5  # what the smallest large probe lets one expect of the next; else that one is not sent
ECHO_S_MAX = 10.0
ROUNDS_KEPT = 16
TICK_S = 0.25
JITTER = 0.25
OVERHEAD_BYTES_MAX = 4096  # of other messages (beacons, requests) during a round that still counts as idle
ALONE_BYTES_MAX = 1024  # and while a small probe and its echo are under way, each way, for them to count as alone

_ZEROS = memoryview(bytes(LARGE_BYTES_MAX))


class ProbeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``every_s``: seconds between rounds on a link, at least; 0: none. ``share_max``: of the link's time."""

    every_s: float = 10.0
    share_max: float = 0.02


class Probe(ms.Message, frozen=True, tag=True):
    """Raw bytes of no meaning follow. The answer is the same with ``echo`` and without the bytes."""

    round: int
    large: bool = False
    echo: bool = False


class Carrier(Protocol):
    """What probes need of the direct links."""

    def send_probe(self, peer: str, probe: Probe, body: memoryview) -> bool: ...

    def counters(self) -> Mapping[str, Mapping[str, float]]: ...


class Round(NamedTuple):
    """Seconds until the echo of the small and the large probe, and the latter's bytes. ``idle``: nothing else left;
    ``alone``: while the small one was under way nothing else came either."""

    small_s: float
    large_s: float
    nbytes: int
    idle: bool
    alone: bool


class _Target:
    """One neighbour. ``sent_at``: of what waits for its echo, None between rounds; ``sent_bytes``: its size;
    ``out_before``: what had left when it was sent. ``probed_bytes``: of this round so far. ``alone``: nothing was
    before the small probe, nor beside it and its echo. ``moved_before``, ``in_before``: when the round began."""

    def __init__(self, next_at: float) -> None:
        self.rounds: Deque[Round] = deque(maxlen=ROUNDS_KEPT)
        self.recent: Deque[Sighting] = deque(maxlen=RECENT)
        self.sighted = self.sent_bytes = self.probed_bytes = 0
        self.out_before = 0.0
        self.alone = True
        self.next_at = self.began_at = next_at
        self.number = self.done = self.lost = 0
        self.nbytes = LARGE_BYTES_MIN
        self.sent_at: Optional[float] = None
        self.small_s: Optional[float] = None
        self.moved_before = self.in_before = 0.0


class Probes:
    """``tick`` it; it is told what arrives. Time is an argument. ``dice``, in [0, 1), keeps both ends of a link from
    probing it at the same moments."""

    def __init__(self, config: ProbeConfig, links: Carrier, dice: Callable[[], float] = random.random) -> None:
        self._config, self._links, self._dice = config, links, dice
        self._targets: Dict[str, _Target] = {}

    async def run(self, clock: Callable[[], float]) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self._config.every_s > 0:
                self.tick(clock())

    def tick(self, now: float) -> None:
        counters = self._links.counters()
        for peer in [peer for peer in self._targets if peer not in counters]:
            del self._targets[peer]
        for peer, counts in counters.items():
            target = self._targets.get(peer) or self._targets.setdefault(peer, _Target(now + self._first_wait_s()))
            if target.sent_at is not None and now - target.sent_at > ECHO_S_MAX:
                target.lost += 1
                self._never_echoed(target, counts, now)
                self._end(target, now)
            if target.sent_at is None and now >= target.next_at:
                target.began_at, target.small_s = now, None
                target.moved_before, target.in_before, target.probed_bytes = _moved(counts), _came(counts), 0
                target.alone = not counts.get("bytes_waiting", 0)
                self._send(peer, target, False, SMALL_BYTES, now)

    def heard(self, peer: str, probe: Probe, now: float) -> None:
        """A probe of the peer's, or the echo of ours. Never raises: it comes from the network."""
        if not probe.echo:
            self._links.send_probe(peer, msgspec.structs.replace(probe, echo=True), _ZEROS[:0])
            return
        target = self._targets.get(peer)
        if target is None or target.sent_at is None or probe.round != target.number:
            return
        if not probe.large and target.small_s is None:
            target.small_s = now - target.sent_at
            target.alone = target.alone and self._undisturbed(peer, target)
            self._send(peer, target, True, LARGE_BYTES_MIN, now)
        elif probe.large and target.small_s is not None:
            found = Round(target.small_s, now - target.sent_at, target.sent_bytes, False, target.alone)
            self._large_echoed(peer, target, found, now)

    def document(self) -> Dict[str, Any]:
        """Per neighbour; ``null`` where nothing is known yet. ``share_max`` and the bytes say what probing may cost."""
        return {peer: self._said(target) for peer, target in sorted(self._targets.items())}

    def _send(self, peer: str, target: _Target, large: bool, nbytes: int, now: float) -> None:
        target.number += 1
        target.sent_at, target.sent_bytes = now, nbytes
        target.out_before = self._counts(peer).get("bytes_out", 0)
        target.probed_bytes += nbytes
        if not self._links.send_probe(peer, Probe(target.number, large), _ZEROS[:nbytes]):
            target.lost += 1
            self._end(target, now)

    def _large_echoed(self, peer: str, target: _Target, found: Round, now: float) -> None:
        if found.nbytes < target.nbytes:
            foreseen_s = (found.large_s - found.small_s) * target.nbytes / found.nbytes
            if foreseen_s <= FORESEEN_S_MAX:
                self._send(peer, target, True, target.nbytes, now)
                return
            target.nbytes = found.nbytes
        elif found.large_s - found.small_s < LONG_ENOUGH_S:
            target.nbytes = min(2 * target.nbytes, LARGE_BYTES_MAX)
        self._learn(target, found._replace(idle=self._idle(peer, target)), self._counts(peer))
        self._end(target, now)

    def _learn(self, target: _Target, found: Round, counts: Mapping[str, float]) -> None:
        target.rounds.append(found)
        target.done += 1
        small_s = found.small_s if found.alone else None
        moved_bytes = counts.get("bytes_out", 0) - target.out_before
        self._sight(target, Sighting(small_s, found.large_s, found.nbytes - SMALL_BYTES, moved_bytes, found.idle))

    def _never_echoed(self, target: _Target, counts: Mapping[str, float], now: float) -> None:
        """It may still wait to leave; then the link has been busy since, and that tells its rate."""
        assert target.sent_at is not None
        target.nbytes = LARGE_BYTES_MIN
        moved_bytes = counts.get("bytes_out", 0) - target.out_before
        if counts.get("bytes_waiting", 0) and moved_bytes:
            self._sight(target, Sighting(None, now - target.sent_at, target.sent_bytes, moved_bytes, False))

    def _sight(self, target: _Target, sighting: Sighting) -> None:
        target.recent.append(sighting)
        target.sighted += 1

    def _idle(self, peer: str, target: _Target) -> bool:
        """Whether nothing but probes and small messages has left since the round began."""
        moved = _moved(self._counts(peer)) - target.moved_before
        return moved <= target.probed_bytes + OVERHEAD_BYTES_MAX + target.probed_bytes // 1000

    def _undisturbed(self, peer: str, target: _Target) -> bool:
        """Whether next to nothing has left or come beside the small probe and its echo."""
        counts = self._counts(peer)
        left, came = _moved(counts) - target.moved_before, _came(counts) - target.in_before
        return max(left, came) <= SMALL_BYTES + ALONE_BYTES_MAX

    def _counts(self, peer: str) -> Mapping[str, float]:
        return self._links.counters().get(peer, {})

    def _end(self, target: _Target, now: float) -> None:
        took_s = now - target.began_at
        target.sent_at = None
        wait_s = max(self._config.every_s, took_s / self._config.share_max)
        target.next_at = now + wait_s * (1 + JITTER * self._dice())

    def _first_wait_s(self) -> float:
        return self._config.every_s * self._dice()

    def _said(self, target: _Target) -> Dict[str, Any]:
        idle = [found for found in target.rounds if found.idle]
        rate, delay_s = rate_and_delay(target.recent)
        return {
            "delay_s": _rounded(min((found.small_s for found in target.rounds), default=None), 2),
            "rate_bytes_per_s": idle_rate(target.rounds), "beside_works_bytes_per_s": busy_rate(target.rounds),
            "rounds": target.done, "idle_rounds": len(idle), "busy_rounds": len(target.rounds) - len(idle),
            "lost": target.lost,
            "probe_bytes": target.nbytes, "share_max": self._config.share_max,
            "recent": {
                "rate_bytes_per_s": None if rate is None else round(rate), "delay_s": _rounded(delay_s, 1),
                "rounds": target.sighted,
            },
        }  # fmt: skip


def idle_rate(rounds: Iterable[Round]) -> Optional[int]:
    """Of the idle rounds with the largest probe: its bytes over the difference of the smallest times. Bytes per second;
    at least so many where no small probe was alone."""
    idle = [found for found in rounds if found.idle]
    largest = max((found.nbytes for found in idle), default=0)
    same = [found.large_s for found in idle if found.nbytes == largest]
    return round(_rate(largest, min(same), _alone_s(idle))) if same else None


def busy_rate(rounds: Iterable[Round]) -> Optional[int]:
    """What was left for the large probe beside works, the median of such rounds. Bytes per second."""
    known = list(rounds)
    alone_s = _alone_s(known)
    busy = [_rate(found.nbytes, found.large_s, alone_s) for found in known if not found.idle]
    return round(median(busy)) if busy else None


def _alone_s(rounds: Iterable[Round]) -> float:
    return min((found.small_s for found in rounds if found.alone), default=0.0)


def _rate(nbytes: int, large_s: float, small_s: float) -> float:
    return (nbytes - SMALL_BYTES) / max(large_s - small_s, 1e-6)


def _moved(counts: Mapping[str, float]) -> float:
    return counts.get("bytes_out", 0) + counts.get("bytes_waiting", 0)


def _came(counts: Mapping[str, float]) -> float:
    return counts.get("bytes_in", 0)


def _rounded(value: Optional[float], parts: int) -> Optional[float]:
    return None if value is None else round(value / parts, 6)


def check_probe_config(config: ProbeConfig) -> str:
    """What is wrong with it, or nothing."""
    if not 0 <= config.every_s < float("inf"):
        return "every_s must be 0 (never) or positive, and finite"
    return "" if 0 < config.share_max <= 0.2 else "share_max must be in (0, 0.2]"
