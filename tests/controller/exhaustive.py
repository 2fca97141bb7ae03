"""Every integral plan of a small fleet, priced one by one with the plain objective's jobs. For tests only."""

import itertools
import math
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from tests.controller.plain_objective import plain_jobs, plain_links

EQUAL = 1e-11


class Way(NamedTuple):
    """One route of one source: by server (rate, class, S, last piece, squares, gamma) of its jobs; what is fixed."""

    visits: Tuple[Any, ...]
    jobs: List[Tuple[str, Tuple[float, int, float, float, float, float]]]
    fixed: float
    holds: Set[Tuple[str, str, int, int]]


class Visit(NamedTuple):
    first: int
    stop: int
    device: str


def best_plan(fleet: Any) -> Optional[Tuple[float, int, Dict[str, Tuple[Any, ...]]]]:
    """J, visits and routes of the best; among equals the fewest visits. None when nothing is feasible."""
    memory = {d.id: d.memory_bytes for d in fleet.device}
    sizes = {m.id: m.memory for m in fleet.model}
    best: Optional[Tuple[float, int, Dict[str, Tuple[Any, ...]]]] = None
    for ways in itertools.product(*_ways(fleet)):
        used: Dict[str, int] = {}
        for device, model, first, stop in set().union(*(way.holds for way in ways)):
            used[device] = used.get(device, 0) + sum(sizes[model][first:stop])
        if any(used[id] > memory[id] for id in used):
            continue
        objective, visits = _objective(ways), sum(len(way.visits) for way in ways)
        if math.isinf(objective):
            continue
        better = best is None or objective < best[0] * (1 - EQUAL)
        if better or (best is not None and objective <= best[0] * (1 + EQUAL) and visits < best[1]):
            best = (objective, visits, {s.id: way.visits for s, way in zip(fleet.source, ways)})
    return best


def _ways(fleet: Any) -> List[List[Way]]:
    links, ids = plain_links(fleet), [d.id for d in fleet.device]
    levels = sorted({f"{s.gamma * s.alpha:.12g}" for s in fleet.source}, key=float, reverse=True)
    found = []
    for source in fleet.source:
        units, ways = len(next(m for m in fleet.model if m.id == source.model).memory), []
        klass = levels.index(f"{source.gamma * source.alpha:.12g}")
        for cuts in range(units):
            for inner in itertools.combinations(range(1, units), cuts):
                edges = (0, *inner, units)
                for places in itertools.product(ids, repeat=cuts + 1):
                    visits = tuple(Visit(*each) for each in zip(edges, edges[1:], places))
                    ways.append(_way(fleet, links, source, klass, visits))
        found.append(ways)
    return found


def _way(fleet: Any, links: Any, source: Any, klass: int, visits: Tuple[Visit, ...]) -> Way:
    done, delay, success = plain_jobs(fleet, links, source, visits)
    jobs = [
        (server, (source.rate_hz, klass, sum(p), p[-1] if p else 0.0, sum(x * x for x in p), source.gamma))
        for server, p in done
    ]
    lost = delay + fleet.loss_penalty_s * (1 - source.alpha * success)
    return Way(
        visits, jobs, source.gamma * source.rate_hz * lost, {(v.device, source.model, v[0], v[1]) for v in visits}
    )


def _objective(ways: Tuple[Way, ...]) -> float:
    servers: Dict[str, List[Tuple[float, int, float, float, float, float]]] = {}
    for way in ways:
        for server, job in way.jobs:
            servers.setdefault(server, []).append(job)
    total = sum(way.fixed for way in ways)
    for jobs in servers.values():
        for rate, p, s, last, _, gamma in jobs:
            above = 1 - sum(j[0] * j[2] for j in jobs if j[1] < p)
            free = 1 - sum(j[0] * j[2] for j in jobs if j[1] <= p)
            if free <= 0:
                return math.inf
            residual = sum(j[0] * (j[2] * j[2] if j[1] <= p else j[4]) for j in jobs) / 2
            total += gamma * rate * (residual / (above * free) + (s - last) / above + last)
    return total
