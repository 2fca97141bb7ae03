"""The prediction that ``benchmarks.agreement`` makes: what was measured before enters it, and nothing else does."""

from typing import Any

import pytest
from benchmarks import agreement
from benchmarks.agreement import (
    MESSAGES_PER_HOP,
    Overheads,
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


def test_the_overheads_are_those_of_a_warm_up_with_other_arrivals(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def real(works: int, policies: Any, seed: int) -> Any:
        seeds.append(seed)
        slow_s = alone_s(works, policies[0], seed, Overheads(0.0004, 0.0)) + 0.016
        return {"alone": {"sources": {"gate": {"mean_s": slow_s}}}}, 0.5

    monkeypatch.setattr(agreement, "real", real)
    monkeypatch.setattr(agreement, "hop_s", lambda: 0.0004)
    hop_s, visit_s = measure_overheads("pa-mdi")
    assert hop_s == 0.0004 and visit_s == pytest.approx(0.002)
    assert seeds == [agreement.WARM_UP_SEED]


def test_when_dock_begins_is_said_to_matter_by_so_much() -> None:
    runs = simulated(40, ("pa-mdi",), NONE)
    assert 0.0 < moved_by(runs, 40, ("pa-mdi",), NONE) < 0.5
