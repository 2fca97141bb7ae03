"""Probes on a wire with a known rate and delay, in virtual time: what they find, and what they take."""

import heapq
import random
from typing import Callable, Dict, List, Tuple

import msgspec
import pytest

from pamdi.daemon.probe import (
    ECHO_S_MAX,
    LARGE_BYTES_MAX,
    LARGE_BYTES_MIN,
    Probe,
    ProbeConfig,
    Probes,
    Round,
    busy_rate,
    check_probe_config,
    idle_rate,
)
from pamdi.daemon.words import decode


class Wire:
    """Two devices, a and b, and a link between them: ``rate_bytes_per_s`` and ``delay_s``, each way, one message after
    the other. ``noise`` adds to the way of every message; ``works_bytes`` go before each probe."""

    def __init__(self, rate_bytes_per_s: float, delay_s: float, noise: Callable[[], float] = lambda: 0.0) -> None:
        self.rate, self.delay_s, self.noise = rate_bytes_per_s, delay_s, noise
        self.now = self.busy_s = 0.0
        self.works_bytes = 0
        self.ends: Dict[str, Probes] = {}
        self.up = self.echoes = True
        self.sent, self.came = {"a": 0, "b": 0}, {"a": 0, "b": 0}
        self.free_at = {"a": 0.0, "b": 0.0}  # of the way that leads from there
        self.largest = 0
        self._heap: List[Tuple[float, int, str, str, Probe, int]] = []
        self._count = 0

    def side(self, me: str, peer: str) -> "Side":
        return Side(self, me, peer)

    def send(self, me: str, peer: str, probe: Probe, nbytes: int) -> bool:
        self._count += 1
        all_bytes = nbytes + (self.works_bytes if nbytes else 0)
        self.sent[me] += all_bytes
        self.largest = max(self.largest, nbytes)
        self.busy_s += nbytes / self.rate
        self.free_at[me] = max(self.now, self.free_at[me]) + all_bytes / self.rate
        arrives_at = self.free_at[me] + self.delay_s + self.noise()
        if self.echoes or not probe.echo:
            heapq.heappush(self._heap, (arrives_at, self._count, peer, me, probe, all_bytes))
        return self.up

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 0.25
            while self._heap and self._heap[0][0] <= self.now:
                at, _, to, sender, probe, nbytes = heapq.heappop(self._heap)
                after, self.now = self.now, at
                self.came[to] += nbytes
                self.ends[to].heard(sender, probe, at)
                self.now = after
            for end in self.ends.values():
                end.tick(self.now)


class Side:
    def __init__(self, wire: Wire, me: str, peer: str) -> None:
        self._wire, self._me, self._peer = wire, me, peer

    def send_probe(self, peer: str, probe: Probe, body: memoryview) -> bool:
        return self._wire.send(self._me, peer, probe, len(body))

    def counters(self) -> Dict[str, Dict[str, float]]:
        out, came = float(self._wire.sent[self._me]), float(self._wire.came[self._me])
        return {self._peer: {"bytes_out": out, "bytes_in": came}} if self._wire.up else {}


def pair(wire: Wire, config: ProbeConfig = ProbeConfig()) -> Wire:
    for seed, (me, peer) in enumerate((("a", "b"), ("b", "a"))):
        wire.ends[me] = Probes(config, wire.side(me, peer), random.Random(seed).random)
    return wire


@pytest.mark.parametrize("rate", [50e3, 2.5e6, 125e6])
def test_rate_and_delay_are_those_of_the_wire_in_both_directions(rate: float) -> None:
    wire = pair(Wire(rate, 0.002))
    wire.run(2000)
    for me, peer in (("a", "b"), ("b", "a")):
        said = wire.ends[me].document()[peer]
        assert said["rate_bytes_per_s"] == pytest.approx(rate, rel=0.01)
        assert 0.002 <= said["delay_s"] <= 0.0035  # the small probe's own bytes, at the slowest rate
        assert (said["beside_works_bytes_per_s"], said["lost"]) == (None, 0)


def test_a_slow_machine_makes_some_rounds_late_and_the_figures_stay() -> None:
    dice = random.Random(3)
    wire = pair(Wire(2.5e6, 0.002, lambda: dice.choice([0.0, 0.001, 0.02, 0.3])))
    wire.run(4000)
    said = wire.ends["a"].document()["b"]
    assert said["rate_bytes_per_s"] == pytest.approx(2.5e6, rel=0.3)
    assert said["delay_s"] < 0.01


@pytest.mark.parametrize("rate", [10e3, 2.5e6])
def test_probes_take_no_more_than_their_share_and_their_size_is_bounded(rate: float) -> None:
    wire = pair(Wire(rate, 0.0), ProbeConfig(every_s=0.5, share_max=0.02))
    wire.run(3000)
    assert 0 < wire.busy_s / 2 <= 0.02 * wire.now + LARGE_BYTES_MIN / rate
    assert LARGE_BYTES_MIN <= wire.largest <= LARGE_BYTES_MAX


def test_rounds_beside_works_are_told_apart() -> None:
    wire = pair(Wire(2.5e6, 0.002))
    wire.works_bytes = 250_000
    wire.run(2000)
    said = wire.ends["a"].document()["b"]
    assert (said["rate_bytes_per_s"], said["idle_rounds"]) == (None, 0)
    assert 0.1e6 < said["beside_works_bytes_per_s"] <= 2.6e6


def test_a_peer_that_never_echoes_costs_a_small_probe_now_and_then() -> None:
    wire = pair(Wire(2.5e6, 0.002))
    wire.echoes = False
    wire.run(2000)
    said = wire.ends["a"].document()["b"]
    assert (said["rounds"], said["rate_bytes_per_s"], said["delay_s"]) == (0, None, None)
    assert said["lost"] >= 1 and wire.largest < LARGE_BYTES_MIN
    assert said["lost"] <= 2000 / (ECHO_S_MAX / said["share_max"]) + 1


def test_a_link_that_becomes_slow_shows_within_a_few_rounds_and_no_large_probe_is_sent_into_it() -> None:
    wire = pair(Wire(12.5e6, 0.001))
    wire.run(300)
    assert wire.largest == LARGE_BYTES_MAX
    recent = wire.ends["a"].document()["b"]["recent"]
    assert (recent["rate_bytes_per_s"], recent["delay_s"]) == (
        pytest.approx(12.5e6, rel=0.01),
        pytest.approx(0.001, rel=0.01),
    )
    wire.rate, wire.delay_s, wire.largest = 50e3, 0.02, 0
    wire.run(400)
    said = wire.ends["a"].document()["b"]
    assert wire.largest == LARGE_BYTES_MIN
    assert said["recent"]["rate_bytes_per_s"] == pytest.approx(50e3, rel=0.01)
    assert said["recent"]["delay_s"] == pytest.approx(0.02, rel=0.1)
    assert said["rate_bytes_per_s"] > 1e6  # of the last 16 rounds, the best


def test_what_a_link_can_do_is_seen_beside_works_too() -> None:
    wire = pair(Wire(2.5e6, 0.002))
    wire.works_bytes = 1_000_000
    wire.run(400)
    recent = wire.ends["a"].document()["b"]["recent"]
    assert recent["rate_bytes_per_s"] == pytest.approx(2.5e6, rel=0.02)
    assert recent["delay_s"] is None  # works went before each small probe


def test_a_probe_that_waits_behind_works_for_ever_still_tells_the_rate() -> None:
    """The link is full of more urgent things: what left while the probe waited is what it can do."""

    class Full:
        out = 0.0

        def send_probe(self, peer: str, probe: Probe, body: memoryview) -> bool:
            return True

        def counters(self) -> Dict[str, Dict[str, float]]:
            return {"b": {"bytes_out": self.out, "bytes_waiting": 500_000}}

    full = Full()
    probes = Probes(ProbeConfig(every_s=0.5), full, lambda: 0.0)
    for step in range(120):
        full.out = 20e3 * step * 0.25
        probes.tick(step * 0.25)
    recent = probes.document()["b"]["recent"]
    assert (recent["rate_bytes_per_s"], recent["delay_s"], recent["rounds"]) == (20_000, None, 1)


def test_a_link_that_is_gone_is_forgotten_and_strange_echoes_change_nothing() -> None:
    wire = pair(Wire(2.5e6, 0.002))
    wire.run(100)
    for probe in (Probe(99, True, True), Probe(1, True, True), Probe(1, False, True)):
        wire.ends["a"].heard("b", probe, wire.now)
        wire.ends["a"].heard("nobody", probe, wire.now)
    assert wire.ends["a"].document()["b"]["rounds"] > 0
    wire.up = False
    wire.run(1)
    assert wire.ends["a"].document() == {}


def test_probing_can_be_switched_off_and_its_settings_are_checked() -> None:
    assert check_probe_config(ProbeConfig()) == "" and check_probe_config(ProbeConfig(every_s=0.0)) == ""
    assert "share_max" in check_probe_config(ProbeConfig(share_max=0.5))
    assert "every_s" in check_probe_config(ProbeConfig(every_s=-1.0))


def test_the_rate_comes_from_the_smallest_times_of_the_largest_probes() -> None:
    rounds = [
        Round(0.1, 0.2, 65536, True, True), Round(0.01, 0.6, 1000064, True, True),
        Round(0.02, 0.51, 1000064, True, True),
    ]  # fmt: skip
    assert (idle_rate(rounds), idle_rate([])) == (2_000_000, None)


def test_a_small_probe_that_waited_behind_something_is_not_taken_away_from_the_large_one() -> None:
    assert idle_rate([Round(0.4999, 0.5, 1000064, True, False)]) == 2_000_000
    assert busy_rate([Round(0.4999, 0.5, 1000064, False, False)]) == 2_000_000


def test_echoes_behind_the_large_probes_of_the_peer_make_no_link_fast() -> None:
    """One end's small probe often meets the other's large one, and in many a fleet that is its first round."""
    for seed in range(50):
        wire = Wire(100e3, 0.002)
        dice = random.Random(seed).random
        for me, peer in (("a", "b"), ("b", "a")):
            wire.ends[me] = Probes(ProbeConfig(2.0, 0.2), wire.side(me, peer), dice)
        for _ in range(100):
            wire.run(0.5)
            said = wire.ends["a"].document().get("b")
            for rate in (said["rate_bytes_per_s"], said["recent"]["rate_bytes_per_s"]) if said else ():
                assert rate is None or rate <= 102e3, (seed, wire.now)
        assert said is not None and said["recent"]["rate_bytes_per_s"] == pytest.approx(100e3, rel=0.1)


def test_the_words_on_the_wire_are_pinned() -> None:
    assert msgspec.msgpack.encode(Probe(7, True)) == b"\x84\xa4type\xa5Probe\xa5round\x07\xa5large\xc3\xa4echo\xc2"
    assert decode(b"\x83\xa4type\xa5Probe\xa5round\x07\xa3new\xc3") == Probe(7)
