"""What each device is told before the run: the allocation documents that a controller would publish.

``residents = "plan"``: the controller's own solver says who holds what. ``"all"``: every device holds every unit of
every model, whatever its memory. Routes come from the same place; with "all" only ``ar-mdi`` is bound to any.
"""

from typing import Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Tuple

from pamdi.controller.allocation import allocate
from pamdi.controller.fleet import ModelEntry, Unit
from pamdi.controller.narrow import routes_by_device
from pamdi.controller.routes import ar_mdi_routes
from pamdi.core.allocation import DeviceAllocation, ModelSpec, Neighbour, Resident, Route
from pamdi.simulator.scenario import Scenario
from pamdi.simulator.ways import Path, Ways, pairs_to_connect

Holds = Dict[str, FrozenSet[Unit]]


class Placing(NamedTuple):
    """Who holds what, the routes that bind, and between whom there are connections: ``paths[a][b]``."""

    holds: Holds
    routes: Dict[str, Tuple[Route, ...]]
    paths: Dict[str, Dict[str, Path]]
    ways: Ways


def place(scenario: Scenario, policy: str) -> Placing:
    """Raises PamdiError (Infeasible) when the plan cannot hold what the sources need."""
    routes: Dict[str, Tuple[Route, ...]] = {}
    if scenario.run.residents == "plan":
        plan = allocate(scenario, policy=policy)
        holds = {
            id: frozenset((r.model, u) for r in held for u in range(r.first, r.stop))
            for id, held in plan.residents.items()
        }
        routes = dict(plan.routes)
    else:
        every = frozenset((model.id, u) for model in scenario.model for u in range(len(model.units)))
        holds = {device.id: every for device in scenario.device}
        if policy == "ar-mdi":
            routes = ar_mdi_routes(scenario)
    ways = Ways(scenario)
    return Placing(holds, routes, _paths(scenario, ways, routes), ways)


def _paths(scenario: Scenario, ways: Ways, routes: Mapping[str, Tuple[Route, ...]]) -> Dict[str, Dict[str, Path]]:
    """Links, and ways over others: both ends have one, or neither."""
    found: Dict[str, Dict[str, Path]] = {
        id: {b: (link,) for b, link in others.items()} for id, others in ways.links.items()
    }
    wanted: Dict[str, List[str]] = {}
    for pair in pairs_to_connect(ways, scenario, routes):
        a, b = sorted(pair)
        wanted.setdefault(a, []).append(b)
        wanted.setdefault(b, []).append(a)
    for a, others in sorted(wanted.items()):
        reached = ways.paths(a)
        for b in sorted(others):
            if b in reached:
                found[a][b] = reached[b]
    return {a: {b: path for b, path in sorted(to.items()) if a in found[b]} for a, to in found.items()}


class Documents:
    """The documents of one run, by device, at any epoch."""

    def __init__(self, scenario: Scenario, policy: str, placing: Placing) -> None:
        self._policy = policy
        self._models: Dict[str, ModelEntry] = {model.id: model for model in scenario.model}
        self._devices = {device.id: device for device in scenario.device}
        self._sources = tuple(source.spec() for source in scenario.source)
        self._specs = tuple(ModelSpec(model.id, tuple(model.bytes)) for model in scenario.model)
        self._routes = routes_by_device(self._devices, policy, self._sources, placing.routes)
        self._neighbours = {a: {b: neighbour(b, path) for b, path in to.items()} for a, to in placing.paths.items()}

    def of(self, id: str, epoch: int, units: Iterable[Unit]) -> DeviceAllocation:
        return DeviceAllocation(
            epoch=epoch,
            policy=self._policy,
            segments=tuple(self._resident(id, unit) for unit in sorted(units)),
            sources=self._sources,
            models=self._specs,
            routes=self._routes[id],
            neighbours=tuple(self._neighbours[id].values()),
        )

    def add_neighbour(self, id: str, b: str, path: Path) -> None:
        self._neighbours[id][b] = neighbour(b, path)

    def _resident(self, id: str, unit: Unit) -> Resident:
        name, u = unit
        device, model = self._devices[id], self._models[name]
        seconds = model.seconds[device.type][u] + device.overhead_s
        batches = model.by_batch(device.type, u, u + 1, device.overhead_s)
        return Resident(name, u, u + 1, "", seconds, model.memory[u], batches)


def neighbour(b: str, path: Path) -> Neighbour:
    """As ``controller.reach`` has it: over others, the links' times add up."""
    rate = path[0].rate_bytes_per_s if len(path) == 1 else 1 / sum(1 / link.rate_bytes_per_s for link in path)
    return Neighbour(b, "", 0, rate, sum(link.delay_s for link in path), tuple(link.b for link in path[:-1]))
