"""What the live controller asks of the solver, in the milliseconds of its tick: single units, few routes per source.
For larger fleets: ``live_large``.

``primary``: where the models would best be held, if each had to be held once; the rounds of ``residents`` begin with
that. ``better_routes``: the usual ways over what is held, never worse than those of ``routes``; works are shared out
between several where one way could not keep up, or where that is better.
"""

from typing import Dict, FrozenSet, List, Mapping, Sequence, Set, Tuple

from pamdi.controller.fleet import Fleet, Unit
from pamdi.controller.objective import evaluate
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.search import Allowed, Search
from pamdi.controller.solver.solve import mixes_of
from pamdi.controller.solver.state import Mix, mixed
from pamdi.core.allocation import Route

EDGE, EDGE_LAST = 0.02, 1e-4
SIZE = 16  # devices around a source
SWEEPS_MAX = 4
SHARING_SWEEPS_MAX = 12
SETTLED = 1e-3  # a sweep that gains less than this share of J is the last
SHARE_MIN = 0.02  # every device is told all routes: a smaller share of a source's works is not worth one
WORK_MAX = 400  # devices times sources; a larger fleet is searched beside the controller's loop

Routes = Dict[str, Tuple[Route, ...]]


def in_time(fleet: Fleet) -> bool:
    """Whether the fleet is small enough to be searched within a tick."""
    return 0 < len(fleet.device) * len(fleet.source) <= WORK_MAX


def too_large(fleet: Fleet) -> bool:
    """Whether it is searched beside the loop."""
    return len(fleet.device) * len(fleet.source) > WORK_MAX


def better_routes(fleet: Fleet, holds: Mapping[str, FrozenSet[Unit]], first: Routes) -> Routes:
    """Routes for the sources of ``first``, which all have one: ``first`` itself unless others cost less."""
    if not in_time(fleet):
        return first
    problem = Problem(fleet)
    search = Search(problem, EDGE, SIZE, numbered(problem, holds), memory=False)
    for s, mix in enumerate(mixes_of(problem, first)):
        if not mix:
            return first
        search.state.put(s, mix)
    _settle(search)
    _share(search)
    routes = routes_of(problem, search.state.mixes)
    better = evaluate(fleet, routes, problem.network).objective < evaluate(fleet, first, problem.network).objective
    return routes if better else first


def primary(fleet: Fleet, open_to: Mapping[str, FrozenSet[Unit]]) -> Dict[str, FrozenSet[Unit]]:
    """By device the units it would hold, were every model held where its sources' routes want it. ``open_to[device]``:
    what it may be given. Empty when the search finds no room for all."""
    if not in_time(fleet):
        return {}
    problem = Problem(fleet)
    search = Search(problem, EDGE, SIZE, numbered(problem, open_to))
    order = list(range(len(problem.demands)))
    if [s for s in order if not search.insert(s)]:
        return {}
    _settle(search)
    found: Dict[str, Set[Unit]] = {}
    for device, model, first, _ in (held for held, users in search.state.users.items() if users):
        found.setdefault(problem.ids[device], set()).add((problem.models[model].id, first))
    return {id: frozenset(units) for id, units in found.items()}


def _settle(search: Search) -> None:
    for _ in range(SWEEPS_MAX):
        gains: List[float] = [search.whole(s) for s in range(len(search.problem.demands))]
        if not any(gains):
            return


def _share(search: Search) -> None:
    if not search.state.full():
        search.state.reset_edge(EDGE_LAST)
    for _ in range(SHARING_SWEEPS_MAX):
        gain = sum(search.share(s) for s in range(len(search.problem.demands)))
        if search.state.edge == EDGE and not search.state.full():
            search.state.reset_edge(EDGE_LAST)
        elif gain <= SETTLED * abs(search.state.objective()):
            return


def routes_of(problem: Problem, mixes: Sequence[Mix]) -> Routes:
    """Of those that have one."""
    routes: Routes = {}
    for s, mix in enumerate(mixes):
        listed = sorted(mixed(mix, SHARE_MIN), key=lambda pair: (-pair[1], pair[0].visits))
        if listed:
            routes[problem.demands[s].spec.id] = tuple(problem.route(column, share) for column, share in listed)
    return routes


def numbered(problem: Problem, units: Mapping[str, FrozenSet[Unit]]) -> Allowed:
    models = {model.id: m for m, model in enumerate(problem.models)}
    return {
        problem.number[id]: {(models[model], u) for model, u in _known(held, models)}
        for id, held in units.items()
        if id in problem.number
    }


def _known(held: FrozenSet[Unit], models: Mapping[str, int]) -> Sequence[Unit]:
    return [unit for unit in sorted(held) if unit[0] in models]
