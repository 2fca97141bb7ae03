"""The prediction that ``benchmarks.agreement`` makes: what was measured before enters it, and nothing else does."""

from typing import Any, List

import pytest
from benchmarks import agreement
from benchmarks.agreement import (
    MESSAGES_PER_HOP,
    Overheads,
    Processors,
    alone_s,
    measure_overheads,
    moved_by,
    scenario_for,
    simulated,
)

NONE = Overheads(0.0, 0.0)


def test_a_hop_delays_every_link_and_a_visit_every_device() -> None:
    plain, slower = scenario_for(20, NONE), scenario_for(20, Overheads(0.004, 0.002))
    assert [device.overhead_s for device in slower.device] == [0.002] * len(plain.device)
    assert slower.mesh[0].delay_s == pytest.approx(plain.mesh[0].delay_s + 0.004 / MESSAGES_PER_HOP)


def test_eight_visits_of_one_millisecond_more_are_eight_milliseconds_alone() -> None:
    longer_s = alone_s(20, "pa-mdi", 1, Overheads(0.0, 0.001)) - alone_s(20, "pa-mdi", 1, NONE)
    assert longer_s == pytest.approx(0.008, rel=0.3)  # and a little more, where works meet


class Warmups:
    """Warm-ups in which a visit takes 2 ms more, and others take these shares of the processors, one after the other.
    A disturbed one comes out a millisecond longer still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *others: float) -> None:
        self.seeds: List[int] = []
        self._others = list(others)
        monkeypatch.setattr(agreement, "real", self.real)
        monkeypatch.setattr(agreement, "hop_s", lambda: 0.0004)

    def real(self, works: int, policies: Any, seed: int) -> Any:
        self.seeds.append(seed)
        others = self._others.pop(0)
        longer_s = 0.016 + (0.008 if others > agreement.OTHERS_MAX else 0.0)
        slow_s = alone_s(works, policies[0], seed, Overheads(0.0004, 0.0)) + longer_s
        return {"alone": {"sources": {"gate": {"mean_s": slow_s}}}}, Processors(0.5, others)


def test_the_overheads_are_those_of_a_warm_up_with_other_arrivals(monkeypatch: pytest.MonkeyPatch) -> None:
    warmups = Warmups(monkeypatch, 0.01)
    hop_s, visit_s, others = measure_overheads("pa-mdi")
    assert (hop_s, others) == (0.0004, 0.01) and visit_s == pytest.approx(0.002)
    assert warmups.seeds == [agreement.WARM_UP_SEED]


def test_a_disturbed_warm_up_is_done_again_and_of_three_the_least_disturbed_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warmups = Warmups(monkeypatch, 0.2, 0.02)
    assert measure_overheads("pa-mdi").visit_s == pytest.approx(0.002) and len(warmups.seeds) == 2
    warmups = Warmups(monkeypatch, 0.2, 0.1, 0.3)
    found = measure_overheads("pa-mdi")
    assert (found.others, len(warmups.seeds)) == (0.1, 3) and found.visit_s == pytest.approx(0.003)


def test_when_dock_begins_is_said_to_matter_by_so_much() -> None:
    runs = simulated(40, ("pa-mdi",), NONE)
    assert 0.0 < moved_by(runs, 40, ("pa-mdi",), NONE) < 0.5
