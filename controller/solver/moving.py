"""Planning again: whether a better plan is worth the engines that it moves.

A device that loads an engine is taken to be lost for as long as it loads, and a fleet that lacks a device to cost twice
what it costs now. So a new plan is worth it when what it gains over ``horizon_s`` is more than what it costs for the
seconds of the device that loads longest, and when it gains at least ``gain_min`` of J - J0 (less is within what
calibration can tell, and plans should not swing).
"""

import math
from typing import Dict, List, NamedTuple, Optional, Tuple

from pamdi.controller.fleet import Fleet
from pamdi.controller.objective import Cost, evaluate
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.solve import Solved, possible, solve
from pamdi.core.allocation import Plan, Resident, Route

Engine = Tuple[str, str, int, int]  # device, model, first, stop


class Terms(NamedTuple):
    """``load_bytes_per_s``: how fast a device loads engines (from its disk into its memory)."""

    gain_min: float = 0.02
    horizon_s: float = 600.0
    load_bytes_per_s: float = 50e6


class Again(NamedTuple):
    """What came of planning again. ``kept``: the old plan stays. ``gain``: what the new one gains or would have, as a
    share of J - J0, infinite when the old one is not feasible any more."""

    solved: Solved
    kept: bool
    gain: float
    engines: Tuple[Engine, ...]
    load_s: float


def solve_again(fleet: Fleet, previous: Plan, solver: str = "fast", terms: Optional[Terms] = None) -> Again:
    """Raises as ``solve`` does."""
    terms = terms if terms is not None else Terms()
    solved = solve(fleet, solver, start=previous)
    engines, load_s = _moves(fleet, previous, solved.plan, terms)
    old = _cost_now(fleet, previous)
    if old is None or not math.isfinite(old.objective):
        return Again(solved, False, math.inf, engines, load_s)
    now, gained = old.objective - old.floor, old.objective - solved.plan.objective
    worth = gained >= terms.gain_min * now and gained * terms.horizon_s > load_s * now
    gain = gained / now if now > 0 else 0.0
    if worth:
        return Again(solved, False, gain, engines, load_s)
    routes = {
        id: tuple(Route(r.fraction, t, r.visits) for r, t in zip(previous.routes[id], old.route_s[id]))
        for id in old.route_s
    }
    memory = {model.id: model.memory for model in fleet.model}
    residents = {
        id: tuple(Resident(r.model, r.first, r.stop, "", 0.0, sum(memory[r.model][r.first : r.stop])) for r in held)
        for id, held in previous.residents.items()
    }
    plan = Plan(previous.solver, old.objective, solved.plan.bound, routes, residents)
    return Again(Solved(plan, old, solved.remarks, solved.trace), True, gain, engines, load_s)


def told(again: Again) -> str:
    """One line for people."""
    moved = f"{len(again.engines)} engines to load, {again.load_s:.3g} s on the device that loads longest"
    if math.isinf(again.gain):
        return f"the old plan is not possible any more: {moved}"
    if again.kept:
        return f"the old plan is kept: another would gain {again.gain:.2%} of J - J0 for {moved}"
    return f"the plan changes: it gains {again.gain:.2%} of J - J0 for {moved}"


def _moves(fleet: Fleet, old: Plan, new: Plan, terms: Terms) -> Tuple[Tuple[Engine, ...], float]:
    before = {(id, r.model, r.first, r.stop) for id, held in old.residents.items() for r in held}
    memory = {model.id: model.memory for model in fleet.model}
    engines: List[Engine] = []
    seconds: Dict[str, float] = {}
    for id, held in new.residents.items():
        for r in held:
            if (id, r.model, r.first, r.stop) not in before:
                engines.append((id, r.model, r.first, r.stop))
                seconds[id] = seconds.get(id, 0.0) + sum(memory[r.model][r.first : r.stop]) / terms.load_bytes_per_s
    return tuple(engines), max(seconds.values(), default=0.0)


def _cost_now(fleet: Fleet, plan: Plan) -> Optional[Cost]:
    """What the old plan costs with the fleet as it is; None when it is not possible any more."""
    problem = Problem(fleet)
    if not possible(problem, plan):
        return None
    used: Dict[str, int] = {}
    numbers = {model.id: m for m, model in enumerate(problem.models)}
    for id, held in plan.residents.items():
        if id not in problem.number:
            return None
        if any(r.model not in numbers for r in held):
            return None
        used[id] = sum(problem.memory_of((0, numbers[r.model], r.first, r.stop)) for r in held)
    if any(size > problem.memory[problem.number[id]] for id, size in used.items()):
        return None
    routes = {source.id: plan.routes[source.id] for source in fleet.source}
    return evaluate(fleet, routes, problem.network)
