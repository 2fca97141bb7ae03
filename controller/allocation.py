"""The live allocation: who holds what, the usual routes, and what they cost.

A sound, deterministic heuristic that respects memory, links and priority: ``residents`` decides the memory, ``routes``
the ways, ``objective`` says what both are worth. With ``solver = "fast"`` the solver says where each model is best held
once, before the rounds of ``residents`` add the copies that the loss of a device needs, and looks for better routes
over what is held; what it finds is taken only when it costs less.

In a fleet too large for that (``WORK_MAX``) it is done only when asked to be ``thorough``, which takes seconds.
"""

from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple

from pamdi.controller.fleet import Fleet, Unit
from pamdi.controller.infeasible import Infeasible
from pamdi.controller.objective import evaluate
from pamdi.controller.residents import Stock, choose
from pamdi.controller.routes import ar_mdi_routes, shortest_routes, with_latencies
from pamdi.controller.solver.live import better_routes, primary, too_large
from pamdi.controller.solver.live_large import near_routes, placed, searched_routes
from pamdi.core.allocation import Plan, Resident

SOLVERS = ("first", "fast")
GAIN_MIN = 0.01  # other residents only for at least this share of the objective
ROUTED = ("local", "ar-mdi", "ddi")  # policies that have their own idea of who holds what and of the way


class Outcome(NamedTuple):
    """A plan for the sources that can be served, why the others cannot, and what people should know."""

    plan: Plan
    refused: Dict[str, str]
    remarks: Tuple[str, ...]


def allocate(
    fleet: Fleet,
    *,
    previous: Optional[Plan] = None,
    drained: FrozenSet[str] = frozenset(),
    policy: str = "pa-mdi",
    residents: str = "plan",
    solver: str = "first",
) -> Plan:
    """Who holds what and the usual routes, for all sources. Raises Infeasible when one cannot be served."""
    outcome = allocate_what_fits(
        fleet, previous=previous, drained=drained, policy=policy, residents=residents, solver=solver
    )
    if outcome.refused:
        raise Infeasible(outcome.refused)
    return outcome.plan


def allocate_what_fits(
    fleet: Fleet,
    *,
    previous: Optional[Plan] = None,
    drained: FrozenSet[str] = frozenset(),
    frozen: FrozenSet[str] = frozenset(),
    unable: Optional[Mapping[str, FrozenSet[Unit]]] = None,
    policy: str = "pa-mdi",
    residents: str = "plan",
    solver: str = "first",
    thorough: bool = False,
) -> Outcome:
    """Like :func:`allocate`, but less urgent sources that do not fit are left out, with the reason.

    ``previous``: its residents stay where they can, and in a large fleet its routes. ``drained`` devices get nothing;
    ``frozen`` ones (suspect) get nothing new; ``unable[device]``: units that it cannot load. ``solver``: one of
    ``SOLVERS``. ``thorough``: a large fleet is searched too.
    """
    large = thorough and too_large(fleet)
    if large and previous is None and residents != "all":
        previous = _placed(fleet, drained, frozen, unable)
    ours = _plan(fleet, previous, drained, frozen, unable, policy, residents, {}, solver, large)
    if solver == "first" or policy in ROUTED or residents == "all":
        return ours
    open_to = _open_to(fleet, drained | frozen, unable or {})
    best = primary(_only(fleet, frozenset(ours.plan.routes)), open_to)
    if not best:
        return ours
    theirs = _plan(fleet, previous, drained, frozen, unable, policy, residents, best, solver, False)
    cheaper = theirs.plan.objective < (1 - GAIN_MIN) * ours.plan.objective
    return theirs if cheaper and theirs.refused == ours.refused else ours


def _plan(
    fleet: Fleet,
    previous: Optional[Plan],
    drained: FrozenSet[str],
    frozen: FrozenSet[str],
    unable: Optional[Mapping[str, FrozenSet[Unit]]],
    policy: str,
    residents: str,
    best: Mapping[str, FrozenSet[Unit]],
    solver: str,
    search: bool,
) -> Outcome:
    before = units_of(previous) if previous is not None else {}
    if policy == "ar-mdi":
        before = _with_chain(fleet, before, drained | frozen)
    stock = choose(fleet, before, drained, frozen, unable, policy, residents, best)
    refused, served = dict(stock.refused), _without(fleet, stock)
    if policy == "ar-mdi":
        routes = ar_mdi_routes(served, stock.holds)
    elif too_large(served):
        routes = near_routes(served, stock.holds, previous.routes if previous is not None else {})
    else:
        routes = shortest_routes(served, stock.holds)
    for source in served.source:
        if source.id not in routes:
            refused[source.id] = f"no way from {source.device} through its model and back: declare the missing [[link]]"
    served = _only(served, frozenset(routes))
    if solver == "fast" and policy not in ROUTED:
        better = searched_routes if search else better_routes
        routes = with_latencies(served, better(served, stock.holds, routes))
    objective = evaluate(served, routes).objective
    plan = Plan(solver, objective, None, routes, _residents(fleet, stock.holds))
    return Outcome(plan, refused, stock.remarks)


def _placed(
    fleet: Fleet, drained: FrozenSet[str], frozen: FrozenSet[str], unable: Optional[Mapping[str, FrozenSet[Unit]]]
) -> Optional[Plan]:
    """Where everything would best be held, each as often as its works need it: the rounds of ``residents`` begin with
    that. None when the search finds no plan for all who can be served."""
    stock = choose(fleet, {}, drained, frozen, unable)
    found = placed(_without(fleet, stock), drained | frozen)
    return Plan("placed", 0.0, None, found.routes, _residents(fleet, found.holds)) if found is not None else None


def units_of(plan: Plan) -> Dict[str, FrozenSet[Unit]]:
    return {
        id: frozenset((r.model, u) for r in held for u in range(r.first, r.stop)) for id, held in plan.residents.items()
    }


def _open_to(fleet: Fleet, closed: FrozenSet[str], unable: Mapping[str, FrozenSet[Unit]]) -> Dict[str, FrozenSet[Unit]]:
    """What each device may be given."""
    units = [(model.id, u, model.seconds) for model in fleet.model for u in range(len(model.memory))]
    return {
        device.id: frozenset((m, u) for m, u, seconds in units if device.type in seconds) - unable.get(device.id, set())
        for device in fleet.device
        if device.id not in closed
    }


def _with_chain(fleet: Fleet, before: Dict[str, FrozenSet[Unit]], closed: FrozenSet[str]) -> Dict[str, FrozenSet[Unit]]:
    """AR-MDI's own chains are wanted where they are before anything else is."""
    open_fleet = Fleet(
        [d for d in fleet.device if d.id not in closed], fleet.link, fleet.mesh, fleet.model, fleet.source
    )
    present = _only(open_fleet, frozenset(s.id for s in fleet.source if s.device in {d.id for d in open_fleet.device}))
    chained: Dict[str, List[Unit]] = {}
    for source in present.source:
        for route in ar_mdi_routes(present).get(source.id, ()):
            for visit in route.visits:
                chained.setdefault(visit.device, []).extend((source.model, u) for u in range(visit.first, visit.stop))
    ids = set(before) | set(chained)
    return {id: before.get(id, frozenset()) | frozenset(chained.get(id, ())) for id in ids}


def _without(fleet: Fleet, stock: Stock) -> Fleet:
    return _only(fleet, frozenset(source.id for source in fleet.source if source.id not in stock.refused))


def _only(fleet: Fleet, sources: FrozenSet[str]) -> Fleet:
    kept = [source for source in fleet.source if source.id in sources]
    return Fleet(fleet.device, fleet.link, fleet.mesh, fleet.model, kept, fleet.loss_penalty_s)


def _residents(fleet: Fleet, holds: Mapping[str, FrozenSet[Unit]]) -> Dict[str, Tuple[Resident, ...]]:
    models = {model.id: model for model in fleet.model}
    kinds = {device.id: device.type for device in fleet.device}
    return {
        id: tuple(
            Resident(model, u, u + 1, "", models[model].seconds[kinds[id]][u], models[model].memory[u])
            for model, u in sorted(units)
        )
        for id, units in sorted(holds.items())
    }
