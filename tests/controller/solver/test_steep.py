"""J and its slope by arrays are those of one server after the other."""

import numpy as np
import pytest

from pamdi.controller.solver.servers import cost
from pamdi.controller.solver.steep import cost_and_slope

EDGE = 0.02


def test_cost_and_slope_are_those_of_one_server_after_the_other() -> None:
    six = np.random.default_rng(0).random((6, 3, 5))
    six[5] *= 0.4  # some servers beyond full, where the line goes on straight
    total, slope = cost_and_slope(six, EDGE)
    assert total == pytest.approx(sum(cost([(k + 1, tuple(six[:, k, v])) for k in range(3)], EDGE) for v in range(5)))
    for at in np.ndindex(6, 3, 5):
        step = np.zeros_like(six)
        step[at] = 1e-6
        there = (cost_and_slope(six + step, EDGE)[0] - cost_and_slope(six - step, EDGE)[0]) / 2e-6
        assert slope[at] == pytest.approx(there, rel=1e-4, abs=1e-6), at
