"""``fast``: feasible, close to the best, and the same every time."""

import math
from collections import Counter
from typing import Dict

import pytest

from pamdi.controller.fleet import Fleet
from pamdi.controller.infeasible import Infeasible
from pamdi.controller.solver.fast import Effort
from pamdi.controller.solver.solve import Solved, solve
from tests.controller.plain_objective import plain_objective
from tests.controller.random_fleets import random_fleet, with_merged

LITTLE = Effort(starts=1, stirs=1, group=2)


def check_feasible(fleet: Fleet, solved: Solved) -> None:
    """Fractions, coverage, residents, memory and J, all from the document."""
    held = {(id, r.model, r.first, r.stop) for id, found in solved.plan.residents.items() for r in found}
    needed = set()
    for source in fleet.source:
        model = next(m for m in fleet.model if m.id == source.model)
        routes = solved.plan.routes[source.id]
        assert math.isclose(sum(route.fraction for route in routes), 1.0, rel_tol=1e-9)
        assert all(route.fraction > 0 for route in routes)
        for route in routes:
            edges = [0, *(v.stop for v in route.visits)]
            assert [v.first for v in route.visits] == edges[:-1]
            assert edges[-1] == len(model.memory)
            needed |= {(v.device, source.model, v.first, v.stop) for v in route.visits}
    assert held == needed
    used: Dict[str, int] = Counter()
    sizes = {m.id: m.memory for m in fleet.model}
    for id, model_id, first, stop in held:
        used[id] += sum(sizes[model_id][first:stop])
    assert all(used[d.id] <= d.memory_bytes for d in fleet.device)
    assert solved.plan.objective == pytest.approx(plain_objective(fleet, dict(solved.plan.routes)), rel=1e-10)
    assert solved.plan.bound is not None
    assert solved.plan.bound <= solved.plan.objective


def test_plans_of_random_fleets_are_feasible_and_cost_what_they_say() -> None:
    planned = 0
    for seed in range(30):
        fleet = random_fleet(seed, 2 + seed % 5, 1 + seed % 4, 2 + seed % 5, tight=seed % 2 == 1)
        fleet = with_merged(fleet, seed) if seed % 3 == 2 else fleet
        try:
            solved = solve(fleet, effort=LITTLE)
        except Infeasible:
            continue
        planned += 1
        check_feasible(fleet, solved)
    assert planned > 15


def test_fast_is_within_one_per_cent_of_exact() -> None:
    """The hundred of ``make bench-allocation``, in small."""
    for seed in range(12):
        fleet = random_fleet(seed, 4, 2 + seed % 2, 3, tight=seed % 2 == 1)
        try:
            best = solve(fleet, "exact")
        except Infeasible:
            continue
        ours = solve(fleet)
        assert ours.plan.objective - ours.cost.floor <= 1.01 * (best.plan.objective - best.cost.floor), seed


def test_the_same_fleet_has_the_same_plan() -> None:
    fleet = random_fleet(5, 5, 4, 4, tight=True)
    assert solve(fleet, effort=LITTLE).plan == solve(fleet, effort=LITTLE).plan


def test_a_flow_that_no_device_can_carry_alone_is_shared_out() -> None:
    fleet = random_fleet(4, 4, 1, 2)
    source = fleet.source[0]
    model = next(m for m in fleet.model if m.id == source.model)
    fastest = min(sum(model.seconds[d.type]) for d in fleet.device)
    source = type(source)(source.id, source.model, source.device, rate_hz=1.2 / fastest)
    links = [type(k)(k.from_, k.to, 1e9) for k in fleet.link]
    mesh = [type(m)(m.devices, 1e9) for m in fleet.mesh]
    heavy = Fleet(fleet.device, links, mesh, fleet.model, [source])
    solved = solve(heavy, effort=LITTLE)
    assert len(solved.plan.routes[source.id]) > 1
    check_feasible(heavy, solved)
