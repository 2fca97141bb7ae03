"""From a fleet to a plan: look for what cannot be, search, and say what it is worth.

The objective printed is that of ``controller.objective``, worked out anew from the routes, not the search's own.
"""

import math
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from pamdi.controller.fleet import Fleet
from pamdi.controller.infeasible import Infeasible
from pamdi.controller.objective import Cost, evaluate
from pamdi.controller.solver.bound import lower_bound
from pamdi.controller.solver.diagnose import impossible, overloaded, overloaded_by_demand, short_of_memory
from pamdi.controller.solver.exact import exact
from pamdi.controller.solver.fast import SECONDS, Effort, Fast, Progress
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.state import Mix, holds_of
from pamdi.core.allocation import Plan, Resident, Route
from pamdi.core.errors import ConfigError

SOLVERS = ("fast", "exact")


class Solved(NamedTuple):
    """The plan, its cost by source, what people should know, and how ``fast`` came to it."""

    plan: Plan
    cost: Cost
    remarks: Tuple[str, ...]
    trace: Tuple[Progress, ...] = ()


def solve(
    fleet: Fleet, solver: str = "fast", seconds: float = SECONDS, start: Optional[Plan] = None,
    effort: Optional[Effort] = None,
) -> Solved:  # fmt: skip
    """``start``: a plan to begin from too, where it is still possible. ``seconds``: a far limit of ``fast``.

    Raises Infeasible (which source, which memory or rate, by how much), TooLarge for ``exact``, ConfigError."""
    if solver not in SOLVERS:
        raise ConfigError(f"solver {solver!r}: one of {', '.join(SOLVERS)}")
    problem = Problem(fleet)
    refused = impossible(problem)
    if refused:
        raise Infeasible(refused)
    trace: Sequence[Progress] = ()
    remarks: List[str] = []
    if solver == "exact":
        best = exact(problem)
        if best is None:
            _explain(problem, Fast(problem, effort, seconds).run(), integral=True)
        mixes: List[Mix] = [((column, 1.0),) for column in best.columns] if best is not None else []
        remarks.append(
            f"proven the best integral plan: {best.nodes if best is not None else 0} partial plans looked at"
        )
    else:
        search = Fast(problem, effort, seconds)
        found = search.run([mixes_of(problem, start.routes)] if start is not None and possible(problem, start) else [])
        mixes, trace = _explain(problem, found), search.trace
        if search.late():
            remarks.append(f"stopped after {seconds:g} s: with more the plan may be better, and may differ")
    plan, cost = _plan(problem, solver, mixes)
    if not math.isfinite(cost.objective):
        raise Infeasible(overloaded(problem, mixes))
    return Solved(plan, cost, tuple(remarks), tuple(trace))


def _explain(problem: Problem, mixes: Optional[List[Mix]], integral: bool = False) -> List[Mix]:
    """The mixes, or Infeasible."""
    if mixes is None:
        raise Infeasible(short_of_memory(problem))
    full = overloaded(problem, mixes)
    if full:
        demand = overloaded_by_demand(problem)
        raise Infeasible({id: f"{why} ({demand})" if demand else why for id, why in full.items()})
    if integral:
        last = problem.demands[-1].spec.id
        why = "no plan with one route per source keeps every server below 1 and fits into memory, though one with "
        raise Infeasible({last: why + "shared routes does: use --solver fast"})
    return mixes


def _plan(problem: Problem, solver: str, mixes: Sequence[Mix]) -> Tuple[Plan, Cost]:
    routes: Dict[str, Tuple[Route, ...]] = {}
    for s, mix in enumerate(mixes):
        listed = sorted(mix, key=lambda pair: (-pair[1], pair[0].visits))
        routes[problem.demands[s].spec.id] = tuple(problem.route(column, share) for column, share in listed)
    cost = evaluate(problem.fleet, routes, problem.network)
    timed = {
        id: tuple(Route(r.fraction, t, r.visits) for r, t in zip(found, cost.route_s[id]))
        for id, found in routes.items()
    }
    in_file_order = {source.id: timed[source.id] for source in problem.fleet.source}
    bound = lower_bound(problem)
    plan = Plan(
        solver, cost.objective, bound if math.isfinite(bound) else None, in_file_order, _residents(problem, mixes)
    )
    return plan, cost


def _residents(problem: Problem, mixes: Sequence[Mix]) -> Dict[str, Tuple[Resident, ...]]:
    held = sorted({one for mix in mixes for one in holds_of(mix)})
    found: Dict[str, List[Resident]] = {}
    for one in held:
        device, model, first, stop = one
        resident = Resident(
            problem.models[model].id,
            first,
            stop,
            "",
            problem.piece_s(device, model, first, stop),
            problem.memory_of(one),
        )
        found.setdefault(problem.ids[device], []).append(resident)
    return {id: tuple(residents) for id, residents in found.items()}


def possible(problem: Problem, plan: Plan) -> bool:
    """Whether the plan has routes for every source, over devices and units that are still there."""
    for demand in problem.demands:
        units = len(problem.models[demand.model].memory)
        routes = plan.routes.get(demand.spec.id, ())
        for route in routes:
            at = 0
            for visit in route.visits:
                known = visit.device in problem.number and visit.first == at < visit.stop
                if not known or not problem.able(problem.number[visit.device], demand.model):
                    return False
                at = visit.stop
            if at != units:
                return False
        if not routes or not math.isclose(sum(route.fraction for route in routes), 1.0, rel_tol=1e-6):
            return False
    return True


def mixes_of(problem: Problem, planned: Mapping[str, Sequence[Route]]) -> List[Mix]:
    """Routes as columns. None of them for a source whose tensors have no way any more."""
    found: List[Mix] = []
    for s, demand in enumerate(problem.demands):
        pairs = []
        for route in planned[demand.spec.id]:
            column = problem.column(s, [(v.first, v.stop, problem.number[v.device]) for v in route.visits])
            if column is not None:
                pairs.append((column, route.fraction))
        found.append(tuple(pairs))
    return found
