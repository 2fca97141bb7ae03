"""All sources even out at once: a step fills no server, and where nobody waits there is a step too."""

import numpy as np
import pytest

from pamdi.controller.solver.evening import CLOSER, Evening, Routes

EDGE = 1e-4


def two_ways(sources: int, load: float) -> Evening:
    """Each source goes its own server, and could go the last one, which all know; ``load`` of a source alone."""
    owner, count = np.repeat(np.arange(sources), 2), 2 * sources
    server = np.where(np.arange(count) % 2, sources, owner)
    second = np.full(count, 0.1)
    sums = np.stack((second, 0 * second, 0 * second, second * load, second * load, np.full(count, load)))
    routes = Routes(owner, np.tile([1.0, 0.0], sources), np.zeros(count), np.arange(count), server, sums)
    return Evening(routes, np.zeros(sources, dtype=np.intp), 1, EDGE)


def test_sources_that_move_at_once_fill_no_server() -> None:
    evening = two_ways(6, 0.8)
    here = evening.slope(evening.routes.share)
    all_over = np.tile([-1.0, 1.0], 6)
    way = evening._shortened(all_over, here, np.ones(12))
    assert evening._cells(evening.routes.share + way)[5][-1] == pytest.approx(CLOSER)
    assert way.reshape(6, 2).sum(axis=1) == pytest.approx(np.zeros(6))


def test_sources_share_what_they_all_know() -> None:
    evening = two_ways(6, 0.8)
    share, here, _ = evening.together(30, 1.0)
    assert here.objective < evening.slope(evening.routes.share).objective
    assert np.ptp(share[1::2]) < 1e-3
    slopes = evening.slopes(here).reshape(6, 2)
    assert slopes[:, 0] == pytest.approx(slopes[:, 1], rel=1e-2)


def test_where_nobody_waits_nothing_breaks() -> None:
    evening = two_ways(3, 1e-6)
    share, here, _ = evening.together(4, 1.0)
    assert share.reshape(3, 2).sum(axis=1) == pytest.approx(np.ones(3))
    assert here.objective <= evening.slope(evening.routes.share).objective


def test_a_source_with_one_route_keeps_all_of_it() -> None:
    """What rounding leaves of its slope less its mean slope is no way to go."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        count = 20
        second, load = rng.uniform(0.01, 0.2, count), rng.uniform(0.01, 0.04, count)
        sums = np.stack((second, rng.uniform(0, 0.1, count), 0.1 * second, second * load, second * load, load))
        each = np.arange(count)
        routes = Routes(each, np.ones(count), rng.uniform(0, 1, count), each, rng.integers(0, 5, count), sums)
        evening = Evening(routes, np.zeros(count, dtype=np.intp), 1, EDGE)
        share, here, _ = evening.together(6, 1e-6)
        assert share.tolist() == [1.0] * count and np.isfinite(here.objective)
