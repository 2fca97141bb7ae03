"""The cheapest routes of a crowd are those that each source would find alone, and cost what a column says."""

import random
from typing import Dict, List, Tuple

import numpy as np
import pytest

from pamdi.controller.solver.around import Chosen
from pamdi.controller.solver.crowd import Crowd
from pamdi.controller.solver.field import Field
from pamdi.controller.solver.grid import Grid
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.reach import Reach
from pamdi.controller.solver.steep import IDLE
from pamdi.controller.solver.variants import Floats, variants
from pamdi.controller.solver.walk import Prices, Walk
from tests.controller.solver.many import many

AROUND = 12


def crowd_of(problem: Problem, grid: Grid, seed: int) -> Tuple[Crowd, Dict[int, List[int]]]:
    """All sources of the first one's model, each among devices drawn anew."""
    rng, model = random.Random(seed), problem.demands[0].model
    sources = [s for s, demand in enumerate(problem.demands) if demand.model == model]
    devices = {}
    for s in sources:
        head = problem.demands[s].head
        devices[s] = [head, *rng.sample([d for d in range(len(problem.ids)) if d != head], AROUND)]
    chosen = Chosen(
        np.repeat(np.arange(len(sources)), AROUND + 1),
        np.array([d for s in sources for d in devices[s]], dtype=np.intp),
    )
    listed = variants(len(problem.models[model].memory))
    return Crowd(problem, Reach(grid), sources, listed, chosen), devices


def slopes_of(problem: Problem, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    slopes = np.empty((6, 2, len(problem.server_names)))
    slopes[:] = IDLE[:, None, None]
    slopes[[0, 1, 3, 4, 5]] += rng.random((5, 2, len(problem.server_names))) * rng.choice([0.0, 0.3])
    return slopes


def test_all_within_two_links_are_reached_by_the_paths_of_the_document() -> None:
    problem = Problem(many(1))
    grid = Grid(problem)
    reach = Reach(grid)
    found = {}
    for a in range(len(problem.ids)):
        for way in range(reach.start[a], reach.start[a + 1]):
            links = [int(n) for n in (reach.first[way], reach.second[way]) if n >= 0]
            found[a, int(reach.to[way])] = [(int(grid.server[n]), float(grid.rate[n])) for n in links]
    wanted = {}
    for a in range(len(problem.ids)):
        for b in range(len(problem.ids)):
            path = problem.short_path(a, b)
            if a != b and path is not None:
                wanted[a, b] = [(hop.server, hop.rate_bytes_per_s) for hop in path]
    assert found == wanted
    every = np.arange(len(problem.ids))
    pairs = np.repeat(every, len(every)), np.tile(every, len(every))
    looked_up = reach.ways_between(*pairs)
    reach._table = None  # as a fleet has it that is too large for one
    assert (reach.ways_between(*pairs) == looked_up).all()
    for a, b, way in zip(*(column.tolist() for column in (*pairs, looked_up))):
        assert (way >= 0) == ((a, b) in wanted)
        assert way < 0 or (reach.start[a] <= way < reach.start[a + 1] and reach.to[way] == b)


def test_a_crowd_finds_the_route_that_each_source_finds_alone() -> None:
    compared = 0
    for seed in range(4):
        problem = Problem(many(seed))
        grid = Grid(problem)
        crowd, devices = crowd_of(problem, grid, seed)
        slopes = slopes_of(problem, seed)
        klass = np.array([problem.demands[int(s)].klass - 1 for s in crowd.sources])
        paths = Walk(crowd, Prices(crowd, slopes, klass)).cheapest()
        routes = dict(zip(paths.source.tolist(), crowd.visits(paths)))
        for s, k in zip(crowd.sources.tolist(), klass.tolist()):
            ways = grid.ways(np.array(devices[s], dtype=np.intp))
            alone = Field(problem, s, devices[s], crowd.listed, ways).cheapest_by(slopes[:, k].T)
            assert (alone is None) == (s not in routes)
            if alone is not None:
                assert routes[s] == alone.visits, (seed, s)
                compared += 1
    assert compared > 10


def test_a_route_asks_of_each_server_what_its_column_asks() -> None:
    problem = Problem(many(2))
    crowd, _ = crowd_of(problem, Grid(problem), 2)
    klass = np.array([problem.demands[int(s)].klass - 1 for s in crowd.sources])
    paths = Walk(crowd, Prices(crowd, slopes_of(problem, 2), klass)).cheapest(3)
    route, server, sums = crowd.asked(paths)
    assert len(paths.source) > len(crowd.sources)
    for n, (s, visits) in enumerate(zip(paths.source.tolist(), crowd.visits(paths))):
        column = problem.column(s, visits)
        assert column is not None
        total: Dict[int, Floats] = {}
        for use in np.flatnonzero(route == n):
            total[int(server[use])] = total.get(int(server[use]), np.zeros(6)) + sums[:, use]
        assert total.keys() == dict(column.uses).keys()
        for used, asked in column.uses:
            assert total[used] == pytest.approx(np.array(asked), rel=1e-12, abs=1e-18)
