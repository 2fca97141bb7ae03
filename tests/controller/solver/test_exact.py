"""``exact`` against every plan there is. ``make exhaustive`` takes the full hundred of larger instances."""

import itertools
import os
from typing import Iterator, Tuple

import pytest

from pamdi.controller.fleet import Fleet
from pamdi.controller.infeasible import Infeasible
from pamdi.controller.solver.exact import TooLarge, exact, routes_of
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.solve import solve
from tests.controller.exhaustive import best_plan
from tests.controller.random_fleets import random_fleet, with_merged

FULL = os.environ.get("PAMDI_EXHAUSTIVE") == "1"
SHAPES = ((3, 2, 3), (4, 2, 2), (2, 3, 3), (3, 3, 2))  # devices, sources, units
FULL_SHAPES = ((3, 3, 3), (4, 2, 4), (2, 3, 4), (4, 3, 2))


def instances(count: int, shapes: Tuple[Tuple[int, int, int], ...]) -> Iterator[Fleet]:
    for seed, shape in zip(range(count), itertools.cycle(shapes)):
        yield random_fleet(seed, *shape, tight=seed // len(shapes) % 2 == 1)


def agree(fleet: Fleet) -> bool:
    """Whether there was a plan to agree on."""
    best = best_plan(fleet)
    try:
        solved = solve(fleet, "exact")
    except Infeasible:
        assert best is None
        return False
    assert best is not None
    visits = sum(len(route.visits) for routes in solved.plan.routes.values() for route in routes)
    assert solved.plan.objective == pytest.approx(best[0], rel=1e-10)
    assert visits == best[1]
    return True


def test_exact_is_the_best_of_all_plans() -> None:
    count = 100 if FULL else 24
    found = [agree(fleet) for fleet in instances(count, FULL_SHAPES if FULL else SHAPES)]
    assert sum(found) > 0.6 * count
    print(f"{len(found)} instances, {sum(found)} with a plan")


def test_exact_is_the_best_where_merged_segments_have_seconds_of_their_own() -> None:
    found = [agree(with_merged(fleet, seed)) for seed, fleet in enumerate(instances(8, SHAPES))]
    assert sum(found) > 4


def test_among_equal_plans_the_fewest_visits() -> None:
    """One source alone gains nothing from being cut."""
    fleet = random_fleet(4, 3, 1, 4)
    solved = solve(fleet, "exact")
    (route,) = solved.plan.routes["s0"]
    runs = [device for device, _ in itertools.groupby(v.device for v in route.visits)]
    assert len(route.visits) == len(runs)


def test_what_is_too_large_is_refused_by_name() -> None:
    problem = Problem(random_fleet(0, 8, 2, 6))
    assert routes_of(problem, 0) == 8 * 9**5
    with pytest.raises(TooLarge, match="source s0 has 472392 routes over 8 devices, at most 20000"):
        exact(problem)


def test_what_cannot_be_proven_in_time_is_refused() -> None:
    with pytest.raises(TooLarge, match="3 partial plans were not enough to prove the best for 3 sources on 4 devices"):
        exact(Problem(random_fleet(0, 4, 3, 3)), nodes_max=3)
