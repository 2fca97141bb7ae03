"""All sources at once: the arrays' J and slope are those of ``servers``, and evening out never costs."""

import numpy as np
import pytest

from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.search import Search
from pamdi.controller.solver.servers import cost
from pamdi.controller.solver.together import Together, cost_and_slope
from tests.controller.random_fleets import random_fleet

EDGE = 0.02


def test_cost_and_slope_are_those_of_one_server_after_the_other() -> None:
    six = np.random.default_rng(0).random((5, 3, 6))
    six[..., 5] *= 0.4  # some servers beyond full, where the line goes on straight
    total, slope = cost_and_slope(six, EDGE)
    assert total == pytest.approx(sum(cost([(k + 1, tuple(six[v, k])) for k in range(3)], EDGE) for v in range(5)))
    for at in np.ndindex(5, 3, 6):
        step = np.zeros_like(six)
        step[at] = 1e-6
        there = (cost_and_slope(six + step, EDGE)[0] - cost_and_slope(six - step, EDGE)[0]) / 2e-6
        assert slope[at] == pytest.approx(there, rel=1e-4, abs=1e-6), at


def test_offering_and_evening_out_lowers_j_within_memory_and_keeps_all_works() -> None:
    gained = 0.0
    for seed in range(12):
        problem = Problem(random_fleet(seed, 5, 4, 4, tight=seed % 2 == 1))
        search = Search(problem, EDGE, 24)
        if not all(search.insert(s) for s in range(len(problem.demands))):
            continue
        for _ in range(3):
            before = search.state.objective()
            Together(search).offer()
            gain = Together(search).even_out()
            assert search.state.objective() <= before * (1 + 1e-3), seed
            assert not search.state.excess()
            assert [sum(f for _, f in mix) for mix in search.state.mixes] == pytest.approx([1.0] * 4)
            gained += gain / before
    assert gained > 0.3


def test_a_source_that_has_not_looked_around_yet_is_offered_routes_too() -> None:
    """It knows links that nobody has numbered before."""
    problem = Problem(random_fleet(3, 6, 4, 4))
    first = Search(problem, EDGE, 24)
    assert all(first.insert(s) for s in range(len(problem.demands)))
    again = Problem(problem.fleet)
    search = Search(again, EDGE, 24)
    for s, mix in enumerate(first.state.mixes):
        column = again.column(s, mix[0][0].visits)
        assert column is not None
        search.state.put(s, ((column, 1.0),))
    Together(search).offer()
    assert search.state.objective() == pytest.approx(first.state.objective())
