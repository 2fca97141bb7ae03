"""The documents that devices obey: one ``DeviceAllocation`` each, from the plan and from what is asked for now."""

from typing import Dict, FrozenSet, Iterable, Mapping, Optional, Tuple

import msgspec

from pamdi.controller.fleet import Unit
from pamdi.controller.narrow import Routes, is_small, routes_by_device
from pamdi.controller.reach import Ground, Neighbourhood, who_needs_a_tunnel
from pamdi.controller.wanted import Wanted
from pamdi.core.allocation import DeviceAllocation, DeviceInfo, Resident, Route


def write_documents(
    ground: Ground,
    neighbourhood: Neighbourhood,
    asks: Mapping[str, FrozenSet[Unit]],
    infos: Mapping[str, DeviceInfo],
    routes: Routes,
    admitted: Iterable[str],
) -> Optional[Dict[str, DeviceAllocation]]:
    """By device, with epoch 0; None: the next call goes on (``Neighbourhood``). Every device knows all admitted
    sources, and all models, since any work may pass. ``narrow``: what else of the fleet it is told."""
    wanted, names = ground.wanted, frozenset(admitted)
    sources = tuple(source.spec() for source in wanted.sources if source.id in names)
    tunnels = who_needs_a_tunnel(infos, frozenset(source.device for source in sources), routes)
    neighbours = neighbourhood.of_all(ground, infos, tunnels)
    if neighbours is None:
        return None
    models = tuple(wanted.specs[name] for name in sorted(wanted.specs))
    told = routes_by_device(asks, wanted.policy, sources, routes)
    return {
        id: DeviceAllocation(
            epoch=0,
            policy=wanted.policy,
            segments=tuple(_resident(wanted, unit, infos[id].type) for unit in sorted(units)),
            sources=sources,
            models=models,
            routes=told[id],
            neighbours=neighbours[id],
        )
        for id, units in asks.items()
    }


def news(
    documents: Mapping[str, DeviceAllocation], published: Mapping[str, DeviceAllocation], epoch: int
) -> Dict[str, DeviceAllocation]:
    """Which of ``documents`` (of no epoch yet) are to be told, as those of ``epoch``, to a fleet that was told what is
    ``published``: in a small one all as soon as one has changed, in a larger one those that have."""
    changed = [id for id, said in documents.items() if id not in published or content(published[id]) != said]
    ids = documents if changed and is_small(len(documents)) else changed
    return {id: with_epoch(documents[id], epoch) for id in ids}


def content(document: DeviceAllocation) -> DeviceAllocation:
    """What a document says, whenever it was said."""
    return msgspec.structs.replace(document, epoch=0)


def with_epoch(document: DeviceAllocation, epoch: int) -> DeviceAllocation:
    return msgspec.structs.replace(document, epoch=epoch)


def units_asked(document: DeviceAllocation) -> FrozenSet[Unit]:
    return frozenset((r.model, u) for r in document.segments for u in range(r.first, r.stop))


def routes_now(
    planned: Routes, before: Routes, asks: Mapping[str, FrozenSet[Unit]], models: Mapping[str, str]
) -> Routes:
    """Routes while a change is under way: each source keeps its old ones as long as every visit is still possible.
    ``models[source]`` is the model of each admitted source."""
    return {
        source: before[source] if source in before and _possible(before[source], models[source], asks) else routes
        for source, routes in planned.items()
    }


def _possible(routes: Tuple[Route, ...], model: str, asks: Mapping[str, FrozenSet[Unit]]) -> bool:
    return all(
        (model, u) in asks.get(visit.device, frozenset())
        for route in routes
        for visit in route.visits
        for u in range(visit.first, visit.stop)
    )


def _resident(wanted: Wanted, unit: Unit, type: str) -> Resident:
    name, u = unit
    model = wanted.models[name]
    seconds = model.seconds[type][u] if type in model.seconds else 0.0
    return Resident(
        name, u, u + 1, wanted.digests.get(unit, ""), seconds, model.memory[u], model.by_batch(type, u, u + 1)
    )
