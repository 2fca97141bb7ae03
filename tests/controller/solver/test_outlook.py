"""Prices as they will be: devices come towards the median of their kind, links stay as they are."""

import numpy as np
import pytest

from pamdi.controller.solver.outlook import Outlook
from pamdi.controller.solver.problem import Problem
from tests.controller.solver.many import many


def test_devices_go_as_far_towards_the_median_of_their_kind_as_is_asked() -> None:
    problem = Problem(many(1))
    now = np.random.default_rng(0).random((6, 2, len(problem.server_names)))
    before = now.copy()
    outlook = Outlook(problem)
    whole, half = outlook.slopes(now, 1.0), outlook.slopes(now, 0.5)
    assert outlook.slopes(now, 0.0) is now
    assert (now == before).all()
    devices = len(problem.ids)
    assert (whole[:, :, devices:] == now[:, :, devices:]).all()
    for d, board in enumerate(problem.boards):
        alike = [e for e, other in enumerate(problem.boards) if other.type == board.type]
        median = np.median(now[:, :, alike], axis=2)
        assert whole[:, :, d] == pytest.approx(median)
        assert half[:, :, d] == pytest.approx((median + now[:, :, d]) / 2)
