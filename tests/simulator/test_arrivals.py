"""Arrivals: each source its own stream."""

import random
from itertools import islice

import pytest

from pamdi.simulator.arrivals import instants
from pamdi.simulator.run import run_world
from pamdi.simulator.scenario import ArrivalsEntry
from tests.simulator.fleets import GATE, YARD, fleet


def test_poisson_instants_are_those_of_the_demos_load() -> None:
    stream, at, expected = random.Random("7/gate"), 0.0, []
    for _ in range(20):
        at += stream.expovariate(5.0)
        expected.append(at)
    assert list(instants(7, "gate", "poisson", 5.0, 20, 0.0)) == expected


def test_periodic_instants_are_evenly_spaced_and_go_on_without_a_count() -> None:
    assert list(islice(instants(1, "gate", "periodic", 4.0, None, 2.0), 3)) == [2.25, 2.5, 2.75]


def test_a_source_sees_the_same_arrivals_whoever_else_is_there_and_whatever_the_policy() -> None:
    alone = run_world(fleet(sources=[GATE]), "pa-mdi", 3).clients["gate"]
    crowd = run_world(fleet(sources=[YARD, GATE]), "ms-mdi", 3).clients["gate"]
    assert [r.submitted_at for r in alone.records.values()] == [r.submitted_at for r in crowd.records.values()]


def test_a_backlog_keeps_its_window_full_until_its_count_is_made() -> None:
    world = run_world(fleet(arrivals=[ArrivalsEntry("gate", "backlog", count=9, window=3)]), "pa-mdi", 1)
    records = list(world.clients["gate"].records.values())
    ends = sorted(r.ended_at for r in records if r.ended_at is not None)
    assert len(records) == len(ends) == 9
    assert [r.submitted_at for r in records] == pytest.approx([1.0, 1.0, 1.0, *ends[:6]])
