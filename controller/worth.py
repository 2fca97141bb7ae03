"""Whether another plan is worth the engines that it moves, in the live controller, and one line that says so.

Two plans are compared: *stay*, which keeps every engine that is loaded where it can and only finds better routes, and
*afresh*, which begins with empty memory. The second is worth it by the rule of ``solver/moving``: it must gain at least
``gain_min`` of J - J0, and over ``horizon_s`` more than what is lost while the device that loads longest loads. Both
are held against the plan that is in force, priced with the fleet as it is now.
"""

import math
from typing import Dict, FrozenSet, Mapping, NamedTuple, Optional, Tuple

import msgspec

from pamdi.controller.allocation import Outcome, units_of
from pamdi.controller.fleet import Fleet, Unit
from pamdi.controller.objective import evaluate, floor_of
from pamdi.controller.solver.moving import Terms
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.solve import possible
from pamdi.core.allocation import Plan

ROUTES_GAIN_MIN = 0.01  # of J - J0: for less no large fleet is told other routes: each device hears of all

Held = Mapping[str, FrozenSet[Unit]]


class Weighed(msgspec.Struct, frozen=True):
    """What came of planning again. J of the plan that was in force (``before``), of the one that is (``planned``), of
    the best that was found (``best``); None where a server cannot keep up, or the way is gone. ``gain``: of the best
    over the one that was in force, as a share of J - J0. ``engines``: what the best would load, ``load_s``: on the
    device that loads longest. ``moved``: whether engines move now."""

    before: Optional[float]
    planned: Optional[float]
    best: Optional[float]
    gain: Optional[float]
    engines: int
    load_s: float
    moved: bool
    said: str


class Moves(NamedTuple):
    """``engines`` to load in all, and ``load_s``: seconds of the device that loads longest."""

    engines: int
    load_s: float


def weigh(
    fleet: Fleet, in_force: Optional[Plan], held: Held, stay: Outcome, afresh: Outcome, terms: Terms
) -> Tuple[Outcome, Weighed]:
    """The better choice of ``stay`` and ``afresh``, and what is to be said of it. ``held``: what need not be loaded."""
    sources = [source for source in fleet.source if source.id in stay.plan.routes]
    served = msgspec.structs.replace(fleet, source=sources)
    before, floor = _in_force(served, in_force), floor_of(sources, fleet.loss_penalty_s)
    away, home = moves(fleet, held, afresh.plan, terms), moves(fleet, held, stay.plan, terms)
    taken, why = _choose(stay, afresh, floor, away.load_s - home.load_s, terms)
    better = taken or (afresh.refused == stay.refused and afresh.plan.objective < stay.plan.objective)
    best, moved = (afresh, away) if better else (stay, home)
    outcome = afresh if taken else stay
    gain = _gain(before, best.plan.objective, floor)
    figures = (before, outcome.plan.objective, best.plan.objective)
    was, planned, reached = (_finite(objective) for objective in figures)
    return outcome, Weighed(
        was, planned, reached, gain, moved.engines, round(moved.load_s, 6),
        moved=(away if taken else home).engines > 0, said=_said(figures, gain, moved, outcome is best, why),
    )  # fmt: skip


def worth_telling(fleet: Fleet, in_force: Plan, found: Plan) -> bool:
    """Whether the routes of ``found``, for which no engine moves, are enough better."""
    sources = [source for source in fleet.source if source.id in in_force.routes]
    span = in_force.objective - floor_of(sources, fleet.loss_penalty_s)
    if math.isinf(span):
        return found.objective < in_force.objective
    return in_force.objective - found.objective >= ROUTES_GAIN_MIN * span > 0


def moves(fleet: Fleet, held: Held, plan: Plan, terms: Terms) -> Moves:
    memory = {model.id: model.memory for model in fleet.model}
    seconds: Dict[str, float] = {}
    engines = 0
    for id, units in units_of(plan).items():
        new = units - held.get(id, frozenset())
        engines += len(new)
        seconds[id] = sum(memory[model][u] for model, u in new) / terms.load_bytes_per_s
    return Moves(engines, max(seconds.values(), default=0.0))


def _choose(stay: Outcome, afresh: Outcome, floor: float, load_s: float, terms: Terms) -> Tuple[bool, str]:
    """Whether to begin afresh, and why or why not. ``load_s``: what that loads longer than staying would."""
    if len(afresh.refused) != len(stay.refused):
        fewer = len(afresh.refused) < len(stay.refused)
        return fewer, "more sources can be served" if fewer else "fewer sources could be served"
    if not afresh.plan.objective < stay.plan.objective:
        return False, "with what is held nothing better was found"
    if math.isinf(stay.plan.objective):
        return True, "with what is held some device or link could not keep up"
    span, gained = stay.plan.objective - floor, stay.plan.objective - afresh.plan.objective
    if gained < terms.gain_min * span:
        return False, f"{gained / span:.2%} by moving engines is less than the {terms.gain_min:.3g} of J - J0 asked for"
    if gained * terms.horizon_s <= load_s * span:
        return False, f"the loading costs more than it gains in {terms.horizon_s:g} s"
    return True, f"{gained / span:.2%} by moving engines is worth their loading within {terms.horizon_s:g} s"


def _in_force(fleet: Fleet, plan: Optional[Plan]) -> Optional[float]:
    """J of the plan in force with the fleet as it is; None when it cannot be followed any more."""
    problem = Problem(fleet)
    if plan is None or not possible(problem, plan):
        return None
    routes = {source.id: plan.routes[source.id] for source in fleet.source}
    return evaluate(fleet, routes, problem.network).objective


def _gain(before: Optional[float], best: float, floor: float) -> Optional[float]:
    if before is None or math.isinf(before) or math.isinf(best) or before <= floor:
        return None
    return (before - best) / (before - floor)


def _said(
    figures: Tuple[Optional[float], float, float], gain: Optional[float], moved: Moves, taken: bool, why: str
) -> str:
    """One line for people."""
    before, planned, best = figures
    was = "the plan before cannot be followed any more" if before is None else f"J was {_number(before)}"
    gains = f", a gain of {gain:.2%} of J - J0," if gain is not None else ""
    cost = f"{moved.engines} engines to load, {moved.load_s:.3g} s on the device that loads longest"
    if not taken:
        return f"kept: {was}, is {_number(planned)}; {_number(best)}{gains} would take {cost}: {why}"
    verb = "moved" if moved.engines else "kept, no engine moves"
    return f"{verb}: {was}, is {_number(planned)}{gains} with {cost}: {why}"


def _number(objective: float) -> str:
    return f"{objective:.6g}" if math.isfinite(objective) else "infinite (a device or link cannot keep up)"


def _finite(objective: Optional[float]) -> Optional[float]:
    return objective if objective is not None and math.isfinite(objective) else None
