"""What the live controller asks of the solver where the fleet is too large to be searched within a tick.

``near_routes`` is for the tick: a source goes on as it went where it still can; any other takes the cheapest route
among the devices around it, by what those before it have left over. The rest takes seconds, beside the loop:
``searched_routes`` over what is held, and ``placed``, where everything would best be held were nothing held yet. All
routes are of single units.
"""

from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Set, Tuple

import msgspec

from pamdi.controller.fleet import Fleet, Unit
from pamdi.controller.network import Network
from pamdi.controller.objective import evaluate
from pamdi.controller.routes import shortest_routes
from pamdi.controller.solver.fast import SIZES_MANY, Effort, Fast
from pamdi.controller.solver.live import EDGE, SIZE, Routes, numbered, routes_of
from pamdi.controller.solver.problem import Problem, Visit
from pamdi.controller.solver.search import Search
from pamdi.controller.solver.solve import mixes_of
from pamdi.controller.solver.state import Mix
from pamdi.core.allocation import Route, RouteVisit

EFFORT = Effort(1, 0, 4, SIZES_MANY, rounds=60)
SECONDS = 60.0  # a far limit of each search
HOLDERS_MAX = 4  # of a unit, nearest first, for a source that finds no way around it

Holds = Mapping[str, FrozenSet[Unit]]


class Placed(NamedTuple):
    """By device the units that ``routes`` go through."""

    holds: Dict[str, FrozenSet[Unit]]
    routes: Routes


def near_routes(fleet: Fleet, holds: Holds, before: Mapping[str, Tuple[Route, ...]]) -> Routes:
    """For the sources that have a way. ``before``: as they went until now."""
    problem = Problem(fleet)
    search = Search(problem, EDGE, SIZE, numbered(problem, holds), memory=False)
    going = _still(problem, holds, before)
    for s, mix in going.items():
        search.state.put(s, mix)
    missed = [s for s in range(len(problem.demands)) if s not in going and not search.insert(s)]
    ids = [demand.spec.id for demand in problem.demands]
    routes = routes_of(problem, search.state.mixes)
    routes.update((ids[s], before[ids[s]]) for s in going)  # to the last digit: what is the same is not told again
    for s in missed:
        routes.update(_far(fleet, problem.network, holds, ids[s]))
    return routes


def searched_routes(fleet: Fleet, holds: Holds, first: Routes) -> Routes:
    """Routes for the sources of ``first``, which all have one: ``first`` itself unless others cost less."""
    problem = Problem(fleet)
    start = mixes_of(problem, first)
    if not start or not all(start):
        return first
    routes = routes_of(problem, Fast(problem, EFFORT, SECONDS).over(numbered(problem, holds), start))
    better = evaluate(fleet, routes, problem.network).objective < evaluate(fleet, first, problem.network).objective
    return routes if better and all(_held(ways, fleet, holds, id) for id, ways in routes.items()) else first


def placed(fleet: Fleet, closed: FrozenSet[str]) -> Optional[Placed]:
    """``closed``: devices that are given nothing. None when no plan is found."""
    boards = [msgspec.structs.replace(d, memory_bytes=0) if d.id in closed else d for d in fleet.device]
    problem = Problem(msgspec.structs.replace(fleet, device=boards))
    mixes = Fast(problem, EFFORT, SECONDS).run() if problem.demands else None
    if mixes is None:
        return None
    routes = {id: _single(ways) for id, ways in routes_of(problem, mixes).items()}
    models = {source.id: source.model for source in fleet.source}
    found: Dict[str, Set[Unit]] = {}
    for id, ways in routes.items():
        for visit in (visit for way in ways for visit in way.visits):
            found.setdefault(visit.device, set()).add((models[id], visit.first))
    return Placed({id: frozenset(units) for id, units in found.items()}, routes)


def _single(routes: Tuple[Route, ...]) -> Tuple[Route, ...]:
    """Every visit unit by unit. Routes that were cut differently may be one now."""
    shares: Dict[Tuple[RouteVisit, ...], float] = {}
    for route in routes:
        visits = tuple(RouteVisit(u, u + 1, v.device) for v in route.visits for u in range(v.first, v.stop))
        shares[visits] = shares.get(visits, 0.0) + route.fraction
    return tuple(Route(share, 0.0, visits) for visits, share in shares.items())


def _still(problem: Problem, holds: Holds, before: Mapping[str, Tuple[Route, ...]]) -> Dict[int, Mix]:
    """The sources that can go on as they went."""
    found: Dict[int, Mix] = {}
    for s, demand in enumerate(problem.demands):
        ways = before.get(demand.spec.id, ())
        if not ways or not _held(ways, problem.fleet, holds, demand.spec.id):
            continue
        columns = [(problem.column(s, _visits(problem, way)), way.fraction) for way in ways]
        mix = tuple((column, share) for column, share in columns if column is not None)
        if len(mix) == len(ways):
            found[s] = mix
    return found


def _held(ways: Tuple[Route, ...], fleet: Fleet, holds: Holds, source: str) -> bool:
    """Whether each is of single units of the source's model, which its devices hold."""
    spec = next(s for s in fleet.source if s.id == source)
    units = len(next(m for m in fleet.model if m.id == spec.model).memory)
    return all(
        [(v.first, v.stop) for v in way.visits] == [(u, u + 1) for u in range(units)]
        and all((spec.model, v.first) in holds.get(v.device, ()) for v in way.visits)
        for way in ways
    )


def _visits(problem: Problem, way: Route) -> List[Visit]:
    return [(v.first, v.stop, problem.number[v.device]) for v in way.visits]


def _far(fleet: Fleet, network: Network, holds: Holds, source: str) -> Routes:
    """The shortest way of a source that finds none around it: among the nearest holders of each unit, by links; then
    among all that it reaches."""
    spec = next(s for s in fleet.source if s.id == source)
    units = [(spec.model, u) for u in range(len(next(m for m in fleet.model if m.id == spec.model).memory))]
    alone = msgspec.structs.replace(fleet, source=[spec])
    reached = _reached(network, spec.device)
    nearest: Dict[str, Set[Unit]] = {}
    for unit in units:
        holders = [id for id in reached if unit in holds.get(id, ())]
        if not holders:
            return {}
        for id in holders[:HOLDERS_MAX]:
            nearest.setdefault(id, set()).add(unit)
    found = shortest_routes(alone, {id: frozenset(some) for id, some in nearest.items()})
    return found or shortest_routes(alone, {id: holds.get(id, frozenset()) for id in reached})


def _reached(network: Network, head: str) -> List[str]:
    """In order of how many links away."""
    order, known = [head], {head}
    for id in order:
        for other in network.beside(id):
            if other not in known:
                known.add(other)
                order.append(other)
    return order
