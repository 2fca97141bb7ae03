"""A lower bound of J that holds: every job waits for nobody, and is lost only with its head.

On a small fleet it is a shortest path per source. On a large one a route either stays at the head or pays the fastest
type's seconds and two transfers of the smallest tensor on the fastest link; the lesser of both is the bound. Units are
merged or not, whichever is faster.
"""

import math
from typing import List

import msgspec

from pamdi.controller.fleet import Fleet, MergedEntry, ModelEntry
from pamdi.controller.solver.field import Field
from pamdi.controller.solver.grid import ways_by_path
from pamdi.controller.solver.problem import Problem, least_seconds
from pamdi.controller.solver.variants import variants

DEVICES_MAX = 32
ROUNDING = 1e-9


def lower_bound(problem: Problem) -> float:
    """Of J, J0 included."""
    fleet = problem.fleet
    sure = Fleet(fleet.device, fleet.link, fleet.mesh, [_fastest(m) for m in fleet.model], fleet.source, 0.0)
    plain = Problem(sure, problem.network)
    terms: List[float] = []
    for s, demand in enumerate(problem.demands):
        spec = demand.spec
        success = 1 - problem.boards[demand.head].fail_probability
        lost_s = fleet.loss_penalty_s * (1 - spec.alpha * success)
        least_s = _least_s(plain, s) if len(problem.ids) <= DEVICES_MAX else _far_s(plain, s)
        terms.append(spec.gamma * spec.rate_hz * (least_s * (1 - ROUNDING) + lost_s))
    return math.fsum(terms)


def _fastest(model: ModelEntry) -> ModelEntry:
    """Every run as one piece that takes what its fastest cut takes."""
    if not model.merged:
        return model
    count = len(model.memory)
    merged = {
        kind: [
            MergedEntry(first, stop, least_seconds(model, [kind], first, stop))
            for first in range(count)
            for stop in range(first + 2, count + 1)
        ]
        for kind in model.seconds
    }
    return msgspec.structs.replace(model, merged=merged)


def _least_s(plain: Problem, s: int) -> float:
    demand = plain.demands[s]
    devices = [demand.head, *(d for d in range(len(plain.ids)) if d != demand.head)]
    listed = variants(len(plain.models[demand.model].memory), whole=True)
    field = Field(plain, s, devices, listed, ways_by_path(plain, devices, len(devices)))
    found = field.cheapest({}, 0.0, 1e-4)
    return found.price / demand.spec.gamma if found is not None else math.inf


def _far_s(problem: Problem, s: int) -> float:
    demand = problem.demands[s]
    fastest_s, rate, delay_s = problem.at_best(demand.model)
    leaving_s = fastest_s + 2 * (min(problem.models[demand.model].bytes) / rate + delay_s) if rate else math.inf
    return min(problem.whole_s(demand.head, demand.model), leaving_s)
