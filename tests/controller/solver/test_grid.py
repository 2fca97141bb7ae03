"""The paths of a large fleet by arrays are the paths of the document, one by one."""

import random
from typing import Dict, List, Set, Tuple

import numpy as np

from pamdi.controller.fleet import DeviceEntry, Fleet, LinkEntry, ModelEntry, SourceEntry
from pamdi.controller.solver.around import around, near
from pamdi.controller.solver.field import Field
from pamdi.controller.solver.grid import Grid, Ways, grid_of, ways_by_path
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.solve import solve
from pamdi.controller.solver.variants import variants


def connected(seed: int, devices: int = 60, one_way: bool = False) -> Fleet:
    rng = random.Random(seed)
    ids = [f"d{n:02d}" for n in range(devices)]
    boards = [DeviceEntry(id, "t", 100) for id in ids]
    pairs = {(min(a, b), max(a, b)) for a in range(devices) for b in rng.sample(range(devices), 5) if a != b}
    links = [
        LinkEntry(ids[a], ids[b], rng.uniform(1e6, 1e7), rng.uniform(0, 0.01), rng.choice([0.0, 0.01]), None, one_way)
        for a, b in sorted(pairs)
    ]
    model = ModelEntry("m", ["u", "v"], [1000, 2000, 10], [10, 10], {"t": [0.01, 0.02]})
    return Fleet(boards, links, [], [model], [SourceEntry(f"s{n}", "m", ids[n], rate_hz=20.0) for n in range(6)])


def paths(ways: Ways) -> Dict[Tuple[int, int], Tuple[List[Tuple[int, float]], float, float]]:
    """By (to, from): server and rate of each hop, delays and losses."""
    found = {}
    for to, origin in zip(*np.nonzero(np.isfinite(ways.fixed_s))):
        used = [int(n) for n in ways.slots[:, to, origin] if n < len(ways.rates)]
        hops = [(ways.servers[n], float(ways.rates[n])) for n in used]
        found[int(to), int(origin)] = hops, round(float(ways.fixed_s[to, origin]), 12), float(ways.lost[to, origin])
    return found


def test_arrays_and_single_paths_agree_on_every_pair_within_two_links() -> None:
    for seed in range(6):
        problem = Problem(connected(seed, one_way=seed % 2 == 1))
        grid = Grid(problem)
        devices = random.Random(seed).sample(range(60), 20)
        by_array = paths(grid.ways(np.array(devices, dtype=np.intp)))
        assert by_array == paths(ways_by_path(problem, devices, 2))
        assert len(by_array) > 50


def test_only_fleets_of_many_links_have_a_grid() -> None:
    assert grid_of(Problem(connected(0))) is not None
    assert grid_of(Problem(connected(0, devices=20))) is None


def test_a_source_looks_at_its_head_at_who_is_near_and_at_what_it_uses() -> None:
    problem = Problem(connected(1))
    grid, always = Grid(problem), {59}
    devices = near(problem, grid, 0, 16, np.zeros(60), always)
    assert devices[:2] == [0, 59]
    assert len(devices) == len(set(devices)) == 16
    beside = set(problem.beside(0))
    assert len(beside & set(devices)) >= len(beside) // 2
    assert around(problem, 0, 16, lambda d: 0.0, always)[:2] == [0, 59]


def test_the_cheapest_route_of_a_lonely_source_waits_for_nobody() -> None:
    problem = Problem(connected(2))
    devices: List[int] = list(range(60))
    field = Field(problem, 0, devices, variants(2), ways_by_path(problem, devices, 2))
    found = field.cheapest({}, 0.0, 1e-4)
    assert found is not None
    assert found.visits == ((0, 2, 0),)
    assert abs(found.price - 0.03) < 1e-9


def test_a_fleet_with_a_grid_is_solved_within_its_memory() -> None:
    solved = solve(connected(3))
    used: Dict[str, Set[Tuple[int, int]]] = {}
    for id, held in solved.plan.residents.items():
        used[id] = {(r.first, r.stop) for r in held}
        assert sum(10 * (stop - first) for first, stop in used[id]) <= 100
    assert set(solved.plan.routes) == {f"s{n}" for n in range(6)}
