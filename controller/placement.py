"""The first allocation: which units each device holds, and the usual route of every source.

A sound heuristic; the solver has its place in a later version. Residents are single units, because every boundary is
a place where an urgent work can go first. Three rounds, sources in order of gamma * alpha:

1. *cover*: every unit of every admitted source's model once, on the device with most memory left, so that as many
   sources as possible can be served at all;
2. *twice*: a second copy elsewhere, so that the loss of one device leaves every boundary covered;
3. *fill*: what memory is left takes further copies, since the dispatch rule uses every ready one; the head of the
   more urgent source first.

A unit that is resident already stays where it is when it can: loading engines costs seconds. Ties go to the smaller
id, so equal input gives an equal plan.
"""

from typing import Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

import msgspec

from pamdi.core.allocation import Route, RouteVisit, SourceSpec

Unit = Tuple[str, int]


class Board(msgspec.Struct, frozen=True):
    """A device as placement sees it. ``refused``: units it cannot load (broken engines)."""

    id: str
    type: str
    memory_bytes: int
    refused: FrozenSet[Unit] = frozenset()


class ModelFacts(msgspec.Struct, frozen=True):
    """Costs of a model's units: bytes across boundaries, memory, seconds per device type."""

    id: str
    bytes: Tuple[int, ...]
    memory: Tuple[int, ...]
    seconds: Dict[str, Tuple[float, ...]]

    @property
    def units(self) -> int:
        return len(self.memory)


class Placement(NamedTuple):
    """``holds[device]``: its units; ``refused[source]``: why a source cannot be admitted, in a sentence."""

    holds: Dict[str, FrozenSet[Unit]]
    routes: Dict[str, Tuple[Route, ...]]
    refused: Dict[str, str]


class _Memory:
    def __init__(self, boards: List[Board], models: Dict[str, ModelFacts]) -> None:
        self.boards = {board.id: board for board in boards}
        self.left = {board.id: board.memory_bytes for board in boards}
        self.holds: Dict[str, Set[Unit]] = {board.id: set() for board in boards}
        self._models = models

    def can_hold(self, device: str, unit: Unit) -> bool:
        board, model = self.boards[device], self._models[unit[0]]
        fits = self.left[device] >= model.memory[unit[1]] and board.type in model.seconds
        return fits and unit not in self.holds[device] and unit not in board.refused

    def hold(self, device: str, unit: Unit) -> None:
        self.holds[device].add(unit)
        self.left[device] -= self._models[unit[0]].memory[unit[1]]

    def copies(self, unit: Unit) -> int:
        return sum(unit in holds for holds in self.holds.values())


def place(
    boards: List[Board],
    models: Dict[str, ModelFacts],
    sources: List[SourceSpec],
    rates: Dict[Tuple[str, str], Tuple[float, float]],
    policy: str = "pa-mdi",
    previous: Optional[Dict[str, FrozenSet[Unit]]] = None,
) -> Placement:
    """``rates[(a, b)]`` is (bytes per second, delay in seconds) of the link a -> b."""
    memory = _Memory(sorted(boards, key=lambda board: board.id), models)
    before = previous or {}
    refused: Dict[str, str] = {}
    ordered = sorted(sources, key=lambda source: (-source.urgency(), source.id))
    for source in ordered:
        problem = _cover(source, memory, models, before)
        if problem:
            refused[source.id] = problem
    admitted = [source for source in ordered if source.id not in refused]
    units = list(dict.fromkeys((s.model, u) for s in admitted for u in range(models[s.model].units)))
    for unit in units:
        if memory.copies(unit) < 2:
            _add_copy(unit, memory, before)
    _fill(admitted, units, memory)
    holds = {device: frozenset(held) for device, held in memory.holds.items()}
    routes = {s.id: _routes(s, models[s.model], memory, rates, policy) for s in admitted}
    return Placement(holds, routes, refused)


def _cover(
    source: SourceSpec, memory: _Memory, models: Dict[str, ModelFacts], before: Dict[str, FrozenSet[Unit]]
) -> str:
    """One copy of each unit; all or none. Returns why not."""
    if source.device not in memory.boards:
        return f"its device {source.device} is not there"
    model = models[source.model]
    added: List[Tuple[str, Unit]] = []
    for u in range(model.units):
        unit = (model.id, u)
        if memory.copies(unit):
            continue
        device = _add_copy(unit, memory, before)
        if device is None:
            for placed, what in added:
                memory.holds[placed].discard(what)
                memory.left[placed] += model.memory[what[1]]
            most = max(memory.left.values(), default=0)
            return f"unit {u} of {model.id} needs {model.memory[u]} bytes; the most that is left on a device is {most}"
        added.append((device, unit))
    return ""


def _add_copy(unit: Unit, memory: _Memory, before: Dict[str, FrozenSet[Unit]]) -> Optional[str]:
    able = [device for device in memory.boards if memory.can_hold(device, unit)]
    if not able:
        return None
    chosen = min(able, key=lambda device: (unit not in before.get(device, ()), -memory.left[device], device))
    memory.hold(chosen, unit)
    return chosen


def _fill(admitted: List[SourceSpec], units: List[Unit], memory: _Memory) -> None:
    """Further copies while memory lasts: heads in order of urgency take their own model first, then everybody."""
    for source in admitted:
        for unit in units:
            if unit[0] == source.model and memory.can_hold(source.device, unit):
                memory.hold(source.device, unit)
    added = True
    while added:
        added = False
        for device in sorted(memory.boards, key=lambda d: (-memory.left[d], d)):
            for unit in sorted(units, key=memory.copies):
                if memory.can_hold(device, unit):
                    memory.hold(device, unit)
                    added = True
                    break


def _routes(
    source: SourceSpec,
    model: ModelFacts,
    memory: _Memory,
    rates: Dict[Tuple[str, str], Tuple[float, float]],
    policy: str,
) -> Tuple[Route, ...]:
    return (chain(source, model, memory),) if policy == "ar-mdi" else (shortest(source, model, memory, rates),)


def shortest(
    source: SourceSpec, model: ModelFacts, memory: _Memory, rates: Dict[Tuple[str, str], Tuple[float, float]]
) -> Route:
    """The quickest way through the layered graph (unit x device), every device idle."""
    best: Dict[str, Tuple[float, Tuple[str, ...]]] = {source.device: (0.0, ())}
    for u in range(model.units):
        following: Dict[str, Tuple[float, Tuple[str, ...]]] = {}
        for device in sorted(d for d in memory.boards if (model.id, u) in memory.holds[d]):
            seconds = model.seconds[memory.boards[device].type][u]
            options = [
                (cost + _transfer_s(origin, device, model.bytes[u], rates) + seconds, (*way, device))
                for origin, (cost, way) in best.items()
            ]
            following[device] = min(options)
        best = following
    home = [
        (cost + _transfer_s(device, source.device, model.bytes[-1], rates), way) for device, (cost, way) in best.items()
    ]
    latency, way = min(home)
    return Route(1.0, latency, _visits(way))


def chain(source: SourceSpec, model: ModelFacts, memory: _Memory) -> Route:
    """AR-MDI as we read it: contiguous units in proportion to speed, the head first, then the others by id. A unit
    goes to the next device of the chain that holds it."""
    order = [source.device, *sorted(device for device in memory.boards if device != source.device)]
    speed = {d: 1.0 / sum(model.seconds[memory.boards[d].type]) for d in order}
    total, way, done = sum(speed.values()), [], 0.0
    for u in range(model.units):
        share, at = (u + 0.5) / model.units * total, 0
        done = speed[order[0]]
        while done < share and at + 1 < len(order):
            at += 1
            done += speed[order[at]]
        candidates = [d for d in order[at:] + order[:at] if (model.id, u) in memory.holds[d]]
        way.append(candidates[0])
    latency = sum(model.seconds[memory.boards[d].type][u] for u, d in enumerate(way))
    return Route(1.0, latency, _visits(tuple(way)))


def _transfer_s(a: str, b: str, nbytes: int, rates: Dict[Tuple[str, str], Tuple[float, float]]) -> float:
    if a == b:
        return 0.0
    rate, delay_s = rates.get((a, b), (1e9, 0.0))
    return nbytes / rate + delay_s


def _visits(way: Tuple[str, ...]) -> Tuple[RouteVisit, ...]:
    return tuple(RouteVisit(u, u + 1, device) for u, device in enumerate(way))
