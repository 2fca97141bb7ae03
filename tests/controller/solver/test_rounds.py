"""Plans of many sources at once: within memory, never dearer from round to round, and J is the document's."""

import math

import pytest

from pamdi.controller.solver.fast import Effort, Fast
from pamdi.controller.solver.grid import grid_of
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.rounds import Rounds
from pamdi.controller.solver.solve import solve
from tests.controller.plain_objective import plain_objective
from tests.controller.solver.many import many
from tests.controller.solver.test_fast import check_feasible

EFFORT = Effort(1, 0, 4, (12, 16), rounds=8)


@pytest.mark.parametrize(("memory", "fails"), [(3.0, 0.0), (0.8, 0.01)])
def test_plans_are_feasible_and_cost_what_they_say(memory: float, fails: float) -> None:
    for seed in range(3):
        fleet = many(seed, memory=memory, fails=fails)
        solved = solve(fleet, effort=EFFORT)
        check_feasible(fleet, solved)
        assert solved.trace[-1].objective == pytest.approx(plain_objective(fleet, dict(solved.plan.routes)), rel=1e-9)
        assert len(solved.trace) > 3


def test_rounds_lower_j_until_they_settle() -> None:
    problem = Problem(many(3))
    grid = grid_of(problem)
    assert grid is not None
    rounds = Rounds(problem, grid, (12, 16))
    assert rounds.place()
    seen = [rounds.pool.objective]
    rounds.go(40, lambda: False, lambda: seen.append(rounds.pool.objective))
    assert len(seen) < 40  # it settled
    assert seen[-1] < 0.9 * seen[0]
    assert all(after <= before * (1 + 1e-3) for before, after in zip(seen[1:], seen[2:]))


def test_the_same_fleet_has_the_same_plan_and_a_plan_to_begin_from_is_not_lost() -> None:
    fleet = many(4)
    first = solve(fleet, effort=EFFORT)
    assert solve(fleet, effort=EFFORT).plan == first.plan
    again = solve(fleet, effort=EFFORT._replace(rounds=1), start=first.plan)
    assert again.plan.objective <= first.plan.objective * (1 + 1e-3)


def test_more_memory_than_there_is_makes_no_plan() -> None:
    problem = Problem(many(5, memory=0.2))
    assert Fast(problem, EFFORT).run() is None
    assert math.isfinite(solve(many(5), effort=EFFORT).plan.objective)


def test_who_found_no_memory_comes_first_the_next_time() -> None:
    for seed in (6, 10, 36, 41):
        fleet = many(seed, memory=0.5)
        problem = Problem(fleet)
        grid = grid_of(problem)
        assert grid is not None
        assert not Rounds(problem, grid, EFFORT.sizes).place()
        check_feasible(fleet, solve(fleet, effort=EFFORT._replace(starts=0)))


def test_a_few_dozen_sources_are_better_off_all_at_once_than_in_turn() -> None:
    """Not in every fleet, but in most, and a hundred times sooner."""
    ratios = []
    for fleet in (many(seed, memory=memory) for memory in (3.0, 0.7) for seed in (1, 2)):
        in_turn = solve(fleet, effort=Effort(1, 2, 4)).plan.objective
        ratios.append(solve(fleet).plan.objective / in_turn)
    assert max(ratios) < 1.03 and sum(ratios) / len(ratios) < 1.0
