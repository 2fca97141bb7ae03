"""The usual way of every source's works through the fleet: a shortest path in the layered graph.

A layer is a unit boundary, a node is a device that holds the unit that starts there. An arc costs the calibrated
seconds of the unit on that device and of the transfer to it, both divided by the share that those who came before
have left over. Sources are routed in order of gamma * alpha, so the more urgent never go round the less urgent.
The dispatch rule is not bound by these routes; ``ar-mdi`` is, and has its own.
"""

from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple

from pamdi.controller.fleet import DeviceEntry, Fleet, ModelEntry, Unit
from pamdi.controller.network import Network, Server
from pamdi.controller.objective import evaluate, idle_s
from pamdi.controller.residents import by_urgency
from pamdi.core.allocation import Route, RouteVisit, SourceSpec

SHARE_MIN = 0.05  # a server said to be full still costs something finite: its seconds divided by this

Holds = Mapping[str, FrozenSet[Unit]]


class _Partial(NamedTuple):
    """A way so far; compared by cost, then by how few devices it changes, then by name."""

    cost_s: float
    moves: int
    way: Tuple[str, ...]


class _Loads:
    """Seconds of work per second that each server has been given so far."""

    def __init__(self) -> None:
        self._load: Dict[Server, float] = {}

    def inflated(self, server: Server, seconds: float) -> float:
        return seconds / max(SHARE_MIN, 1 - self._load.get(server, 0.0))

    def add(self, server: Server, share: float) -> None:
        self._load[server] = self._load.get(server, 0.0) + share


def shortest_routes(fleet: Fleet, holds: Holds) -> Dict[str, Tuple[Route, ...]]:
    """One route per source that has one. Works that only a cut network keeps apart have none."""
    network, loads = Network(fleet), _Loads()
    devices = {device.id: device for device in fleet.device}
    models = {model.id: model for model in fleet.model}
    routes: Dict[str, Tuple[Route, ...]] = {}
    for source in by_urgency(fleet.source):
        way = _shortest(source, models[source.model], devices, network, holds, loads)
        if way is not None:
            _add_load(source, models[source.model], devices, network, way, loads)
            routes[source.id] = (Route(1.0, 0.0, _visits(way)),)
    return with_latencies(fleet, routes)


def ar_mdi_routes(fleet: Fleet, holds: Optional[Holds] = None) -> Dict[str, Tuple[Route, ...]]:
    """AR-MDI as we read it (by description only): per source, contiguous units, as many per device as its speed is
    of the speed of all; the chain begins at the head and goes on by id; sources are blind to each other.

    ``holds``: a unit that the device whose turn it is does not hold goes to the next of the chain that does.
    """
    routes: Dict[str, Tuple[Route, ...]] = {}
    for source in fleet.source:
        model = next(model for model in fleet.model if model.id == source.model)
        way = _chain(source, model, fleet.device, holds)
        if way is not None:
            routes[source.id] = (Route(1.0, 0.0, _visits(way)),)
    return with_latencies(fleet, routes)


def with_latencies(fleet: Fleet, routes: Mapping[str, Tuple[Route, ...]]) -> Dict[str, Tuple[Route, ...]]:
    """``latency_s`` filled in: T of ``allocation.md``, or the idle seconds where a server could not keep up (JSON
    knows no infinity, and a device needs some number)."""
    present = [source for source in fleet.source if source.id in routes]
    served = Fleet(fleet.device, fleet.link, fleet.mesh, fleet.model, present, fleet.loss_penalty_s)
    network = Network(served)
    cost = evaluate(served, routes, network)
    filled: Dict[str, Tuple[Route, ...]] = {}
    for source in present:
        filled[source.id] = tuple(
            Route(
                route.fraction,
                round(time_s if time_s != float("inf") else idle_s(fleet, source, route, network), 9),
                route.visits,
            )
            for route, time_s in zip(routes[source.id], cost.route_s[source.id])
        )
    return filled


def _shortest(
    source: SourceSpec,
    model: ModelEntry,
    devices: Dict[str, DeviceEntry],
    network: Network,
    holds: Holds,
    loads: _Loads,
) -> Optional[Tuple[str, ...]]:
    best: Dict[str, _Partial] = {source.device: _Partial(0.0, 0, ())}
    for u in range(len(model.memory)):
        following: Dict[str, _Partial] = {}
        for id in sorted(id for id, held in holds.items() if (model.id, u) in held and id in devices):
            unit_s = model.seconds[devices[id].type][u] + devices[id].overhead_s
            options = _arrivals(best, id, loads.inflated(("device", id), unit_s), model.bytes[u], network, loads)
            if options:
                following[id] = min(options)
        best = following
    home = _arrivals(best, source.device, 0.0, model.bytes[-1], network, loads)
    return min(home).way[:-1] if home else None


def _arrivals(
    best: Mapping[str, _Partial], id: str, compute_s: float, nbytes: int, network: Network, loads: _Loads
) -> List[_Partial]:
    found = []
    for origin, partial in best.items():
        path = network.path(origin, id)
        if path is not None:
            transfer_s = sum(loads.inflated(k.server, nbytes / k.rate_bytes_per_s) + k.delay_s for k in path)
            cost_s = partial.cost_s + transfer_s + compute_s
            found.append(_Partial(cost_s, partial.moves + (origin != id), (*partial.way, id)))
    return found


def _add_load(
    source: SourceSpec,
    model: ModelEntry,
    devices: Dict[str, DeviceEntry],
    network: Network,
    way: Tuple[str, ...],
    loads: _Loads,
) -> None:
    stops = (source.device, *way, source.device)
    for u, (a, b) in enumerate(zip(stops, stops[1:])):
        for link in network.path(a, b) or ():
            loads.add(link.server, source.rate_hz * model.bytes[u] / link.rate_bytes_per_s)
    for u, id in enumerate(way):
        loads.add(("device", id), source.rate_hz * (model.seconds[devices[id].type][u] + devices[id].overhead_s))


def _chain(
    source: SourceSpec, model: ModelEntry, devices: List[DeviceEntry], holds: Optional[Holds]
) -> Optional[Tuple[str, ...]]:
    able = {device.id: device for device in devices if device.type in model.seconds}
    order = [id for id in (source.device, *sorted(able)) if id in able]
    order = list(dict.fromkeys(order))
    if not order:
        return None
    speeds = [1.0 / sum(model.seconds[able[id].type]) for id in order]
    count, way = len(model.memory), []
    for u in range(count):
        share, at, reached = (u + 0.5) / count * sum(speeds), 0, speeds[0]
        while reached < share and at + 1 < len(order):
            at += 1
            reached += speeds[at]
        turn = order[at:] + order[:at]
        holders = turn if holds is None else [id for id in turn if (model.id, u) in holds.get(id, ())]
        if not holders:
            return None
        way.append(holders[0])
    return tuple(way)


def _visits(way: Tuple[str, ...]) -> Tuple[RouteVisit, ...]:
    return tuple(RouteVisit(u, u + 1, device) for u, device in enumerate(way))
