"""The live allocation with the solver: never dearer than the plain heuristic, as safe, and steady."""

import math
from typing import List

import pytest

from pamdi.controller.allocation import Outcome, allocate_what_fits
from tests.controller.fleets import fleet, gate, net, yard
from tests.controller.random_fleets import random_fleet


def copies(outcome: Outcome) -> List[int]:
    held = [(r.model, r.first) for found in outcome.plan.residents.values() for r in found]
    return sorted(held.count(unit) for unit in set(held))


def test_the_solver_is_never_dearer_refuses_nobody_else_and_stays_with_its_outcome() -> None:
    cheaper = 0
    for seed in range(60):
        wanted = random_fleet(seed, 3 + seed % 4, 2 + seed % 3, 3 + seed % 4, tight=seed % 2 == 1)
        first, fast = allocate_what_fits(wanted), allocate_what_fits(wanted, solver="fast")
        assert fast.refused == first.refused
        assert fast.plan.objective <= first.plan.objective
        cheaper += fast.plan.objective < 0.999 * first.plan.objective
        again = allocate_what_fits(wanted, solver="fast", previous=fast.plan)
        assert again.plan.residents == fast.plan.residents, seed
    assert cheaper > 10


def test_every_unit_is_still_held_twice_where_memory_allows() -> None:
    wanted = fleet([400, 400, 400], [gate(), yard()], [net(4)])
    assert min(copies(allocate_what_fits(wanted, solver="fast"))) >= 2


def test_a_drained_device_gets_nothing_from_the_solver_either() -> None:
    wanted = fleet([400, 400, 400], [gate("d1"), yard("d1")], [net(4)])
    outcome = allocate_what_fits(wanted, solver="fast", drained=frozenset({"d0"}))
    assert not outcome.plan.residents["d0"]
    assert not [v for routes in outcome.plan.routes.values() for r in routes for v in r.visits if v.device == "d0"]
    assert math.isfinite(outcome.plan.objective)


def test_works_are_shared_out_where_no_single_way_could_keep_up() -> None:
    """Each source asks for 1.2 times what one device can do, both together for 0.8 of what three can."""
    busy = [gate(rate_hz=30.0), yard(rate_hz=30.0)]
    wanted = fleet([400, 400, 400], busy, [net(4)])
    assert math.isinf(allocate_what_fits(wanted).plan.objective)
    shared = allocate_what_fits(wanted, solver="fast").plan
    assert math.isfinite(shared.objective)
    assert max(len(routes) for routes in shared.routes.values()) > 1
    assert [sum(r.fraction for r in routes) for routes in shared.routes.values()] == pytest.approx([1.0, 1.0])
    assert min(r.fraction for routes in shared.routes.values() for r in routes) >= 0.02
