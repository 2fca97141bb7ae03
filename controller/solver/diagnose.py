"""Why there is no plan, in one line per source: before the search what can be seen at once, after it what it ran into.

Before: a model that no device in reach can run, a unit larger than any memory in reach, a model larger than all memory
in reach. After: memory that is enough for each source but not for all, and servers that nobody could keep below 1.
"""

from typing import Callable, Dict, List, Sequence, Set

from pamdi.controller.network import Server
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.state import Mix, State


def impossible(problem: Problem) -> Dict[str, str]:
    """By source, why it could not be served even alone."""
    reach: Dict[int, List[int]] = {}
    found: Dict[str, str] = {}
    for s, demand in enumerate(problem.demands):
        if demand.head not in reach:  # there and back again: all who are in it have the same reach
            mutual = _in_reach(problem, demand.head)
            reach.update((device, mutual) for device in mutual)
        why = _alone(problem, s, reach[demand.head])
        if why:
            found[demand.spec.id] = why
    return found


def short_of_memory(problem: Problem) -> Dict[str, str]:
    """After a search that found no room for all: the least urgent source, and what all models need once."""
    models = sorted({demand.model for demand in problem.demands})
    needs = sum(sum(problem.models[m].memory) for m in models)
    have = sum(problem.memory)
    last = problem.demands[-1].spec
    if needs > have:
        return {last.id: f"{len(models)} models need {needs} bytes in all, the devices have {have}: "
                         f"{needs - have} too few"}  # fmt: skip
    return {last.id: f"no way was found to fit {len(models)} models of {needs} bytes in all into {len(problem.ids)} "
                     f"devices of {have}, since units do not divide: give the devices more memory_bytes"}  # fmt: skip


def overloaded(problem: Problem, mixes: Sequence[Mix]) -> Dict[str, str]:
    """After a search that ended with full servers: by the least urgent source on each, and by how much."""
    state = State(problem, 0.02)
    for s, mix in enumerate(mixes):
        state.put(s, mix)
    found: Dict[str, str] = {}
    for server in sorted(state.flows, key=lambda server: (-state.load(server), server)):
        load = state.load(server)
        if load < 1.0:
            break
        victim = max(state.flows[server])
        spec = problem.demands[victim].spec
        share = state.flows[server][victim][5] / spec.rate_hz
        less_hz = min(spec.rate_hz, (load - 1.0) / share) if share else spec.rate_hz
        found.setdefault(
            spec.id,
            f"{_name(problem.server_names[server])} would have {load:.4g} s of work per second, at most 1 can be done: "
            f"lower rate_hz = {spec.rate_hz:g} by more than {less_hz:.3g}, or add devices or links",
        )
    return found


def overloaded_by_demand(problem: Problem) -> str:
    """Empty, or that even the fastest device for everything would not do."""
    asked = 0.0
    for demand in problem.demands:
        asked += demand.spec.rate_hz * problem.at_best(demand.model)[0]
    if asked < len(problem.ids):
        return ""
    return f"all sources ask for at least {asked:.4g} s of work per second of {len(problem.ids)} devices"


def _alone(problem: Problem, s: int, reach: Sequence[int]) -> str:
    demand = problem.demands[s]
    model = problem.models[demand.model]
    able = [d for d in reach if problem.able(d, demand.model)]
    if not able:
        kinds = ", ".join(sorted({problem.boards[d].type for d in reach}))
        return f"no device in reach of {problem.ids[demand.head]} can run {model.id}: add [model.seconds] for {kinds}"
    largest = max(able, key=lambda d: (problem.memory[d], -d))
    for u, needs in enumerate(model.memory):
        if needs > problem.memory[largest]:
            return (
                f"{model.id}[{u}:{u + 1}] needs {needs} bytes, the largest memory in reach is "
                f"{problem.memory[largest]} ({problem.ids[largest]}): {needs - problem.memory[largest]} too few"
            )
    needs, have = sum(model.memory), sum(problem.memory[d] for d in able)
    if needs > have:
        away = "" if len(reach) == len(problem.ids) else f", {len(problem.ids) - len(reach)} devices have no link to it"
        return (
            f"{model.id} needs {needs} bytes, the {len(able)} devices in reach of {problem.ids[demand.head]} have "
            f"{have}: {needs - have} too few{away}"
        )
    return ""


def _in_reach(problem: Problem, head: int) -> List[int]:
    """Devices that a tensor can get to from ``head`` and come back from."""
    network, number = problem.network, problem.number
    out = _flood(head, lambda d: [number[id] for id in network.beside(problem.ids[d])])
    back = _flood(head, lambda d: [number[id] for id in network.before(problem.ids[d])])
    return sorted(out & back)


def _flood(start: int, following: Callable[[int], List[int]]) -> Set[int]:
    reached, layer = {start}, [start]
    while layer:
        layer = sorted({b for a in layer for b in following(a)} - reached)
        reached.update(layer)
    return reached


def _name(server: Server) -> str:
    if server[0] == "link":
        return f"link {server[1]} -> {server[2]}"
    return " ".join(server)
