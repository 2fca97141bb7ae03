"""Which devices a source need look at: its head, and those it reaches soonest and that would be done soonest.

A fleet of a thousand devices is mostly out of reach of a source: each hop costs a transfer each way. Rings of hops are
taken in turn until there are enough candidates; within the rings the rank is the time to go there, run the whole model
alone with what others have left over, and come back.
"""

from typing import Callable, Dict, List, NamedTuple, Sequence, Set, Tuple

import numpy as np

from pamdi.controller.solver.grid import Grid
from pamdi.controller.solver.jobs import price, transfers
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.reach import Reach
from pamdi.controller.solver.variants import Floats, Ints

FREE_MIN = 0.05  # a full device still has a rank
RING_MAX = 256  # of a ring that is larger only the fastest are ranked


def around(problem: Problem, s: int, count: int, load: Callable[[int], float], always: Set[int]) -> List[int]:
    """At most ``count`` devices for source ``s``, the head first; those of ``always`` among them."""
    demand = problem.demands[s]
    if len(problem.ids) <= count:
        return [demand.head, *(d for d in range(len(problem.ids)) if d != demand.head)]
    model = problem.models[demand.model]
    least = min(model.bytes)
    chosen = [demand.head, *sorted(always - {demand.head})]
    ranked: List[Tuple[float, int]] = []
    away_s: Dict[int, float] = {demand.head: 0.0}
    ring = [demand.head]
    while ring and len(chosen) + len(ranked) < count:
        following: List[int] = []
        for a in ring:
            for b in _beside(problem, demand.model, a):
                if b not in away_s:
                    path = problem.path(a, b)
                    hop = path[0] if path else None
                    away_s[b] = away_s[a] + (least / hop.rate_bytes_per_s + hop.delay_s if hop else 0.0)
                    following.append(b)
        for b in following:
            if b not in always and problem.able(b, demand.model) and problem.memory[b] >= min(model.memory):
                free = max(FREE_MIN, 1.0 - load(b))
                ranked.append((2 * away_s[b] + problem.whole_s(b, demand.model) / free, b))
        ring = following
    chosen.extend(b for _, b in sorted(ranked)[: max(0, count - len(chosen))])
    return chosen


def near(problem: Problem, grid: Grid, s: int, count: int, loads: Floats, always: Set[int]) -> List[int]:
    """The same by arrays, within two rings."""
    demand = problem.demands[s]
    model = problem.models[demand.model]
    devices, away_s = grid.near(demand.head, min(model.bytes), 1 if count <= grid.degree else 2)
    whole_s, room = problem.whole_everywhere(demand.model)
    rank = 2 * away_s + whole_s[devices] / np.maximum(FREE_MIN, 1.0 - loads[devices])
    rank[~room[devices]] = np.inf
    chosen = [demand.head, *sorted(always - {demand.head})]
    listed = [int(d) for d in devices[np.lexsort((devices, rank))] if room[d] and d not in always]
    return chosen + listed[: max(0, count - len(chosen))]


def _beside(problem: Problem, model: int, a: int) -> List[int]:
    found = problem.beside(a)
    if len(found) <= RING_MAX:
        return found
    count = len(problem.ids)  # equals are taken from here on round the ring, so that sources spread
    fastest = sorted(found, key=lambda b: (problem.whole_s(b, model), (b - a) % count))
    return fastest[:RING_MAX]


class Chosen(NamedTuple):
    """Which devices each source looks at: pairs of its place and the device."""

    owner: Ints
    device: Ints


def choose(problem: Problem, reach: Reach, sources: Sequence[int], count: int, slopes: Floats, klass: Ints,
           always: Chosen) -> Chosen:  # fmt: skip
    """At most ``count`` devices for each source: its head, ``always``, and those where, as prices are now, a work
    would be back soonest."""
    demands = [problem.demands[s] for s in sources]
    entry = problem.models[demands[0].model]
    heads = np.array([d.head for d in demands], dtype=np.intp)
    gamma = np.array([d.spec.gamma for d in demands])
    ways, owner = reach.ways_from(heads)
    device = reach.to[ways]
    whole_s, room = problem.whole_everywhere(demands[0].model)
    grid, least = reach.grid, np.float64(min(entry.bytes))
    cost = np.zeros(len(ways))
    for links in (reach.first[ways], reach.second[ways]):
        there = links >= 0
        at, mine = links[there], owner[there]
        t, end, fine = transfers(least, grid.rate[at])
        cost[there] += 2 * (price((t, end, fine), slopes[:, klass[mine], grid.server[at]], gamma[mine]))
        cost[there] += 2 * gamma[mine] * grid.delay_s[at]
    t = whole_s[device]
    pieces = t * t / len(entry.memory)
    cost += price((t, t / len(entry.memory), pieces), slopes[:, klass[owner], device], gamma[owner])
    cost[~room[device]] = np.inf
    owner = np.concatenate((owner, always.owner, np.arange(len(sources))))
    device = np.concatenate((device, always.device, heads))
    cost = np.concatenate((cost, np.full(len(always.owner), -1.0), np.full(len(sources), -2.0)))
    some = np.isfinite(cost)
    owner, device, cost = owner[some], device[some], cost[some]
    pair = owner * len(problem.ids) + device
    order = np.lexsort((cost, pair))  # one of each pair, the cheapest
    order = order[np.append(True, np.diff(pair[order]) > 0)]
    order = order[np.lexsort((cost[order], owner[order]))]  # equals stay in the devices' order
    start = np.searchsorted(owner[order], np.arange(len(sources)))
    place = np.arange(len(order)) - start[owner[order]]
    kept = order[(place < count) | (cost[order] < 0)]
    return Chosen(owner[kept], device[kept])
