"""Who can talk to whom, and how: directly, over other devices, or over the broker.

A small fleet's devices may all talk to each other. In a large one that would be a million tunnels, so there a tunnel
is made only where a work may need one: between a source's device and everybody, since the answer goes there, and
between devices that follow each other on a route. Both ends of a pair come to the same conclusion.
"""

from typing import FrozenSet, Iterable, List, Mapping, Optional, Tuple

from pamdi.controller.network import Network
from pamdi.core.allocation import DeviceInfo, Neighbour, Route

TUNNELS_ALL_DEVICES_MAX = 32

Pair = FrozenSet[str]


def pairs_that_need_a_tunnel(
    ids: Iterable[str], heads: FrozenSet[str], routes: Mapping[str, Tuple[Route, ...]]
) -> Optional[FrozenSet[Pair]]:
    """Beyond the direct links; None: every pair. ``heads``: the devices of the admitted sources."""
    everybody = list(ids)
    if len(everybody) <= TUNNELS_ALL_DEVICES_MAX:
        return None
    pairs = {frozenset((head, id)) for head in heads for id in everybody if id != head}
    for ways in routes.values():
        for route in ways:
            for a, b in zip(route.visits, route.visits[1:]):
                if a.device != b.device:
                    pairs.add(frozenset((a.device, b.device)))
    return frozenset(pairs)


def neighbours_of(
    id: str, network: Network, infos: Mapping[str, DeviceInfo], tunnels: Optional[FrozenSet[Pair]]
) -> Tuple[Neighbour, ...]:
    """In order of their ids."""
    direct = {link.b for link in network.neighbours(id)}
    if tunnels is None:
        others = set(infos)
    else:
        others = direct | {other for pair in tunnels if id in pair for other in pair}
    found = (_neighbour(id, other, network, infos) for other in sorted(others & set(infos)) if other != id)
    return tuple(neighbour for neighbour in found if neighbour is not None)


def _neighbour(a: str, b: str, network: Network, infos: Mapping[str, DeviceInfo]) -> Optional[Neighbour]:
    path = network.path(a, b)
    if not path or not network.path(b, a):
        return None
    seconds_per_byte = sum(1 / link.rate_bytes_per_s for link in path)  # store and forward: the links' times add up
    delay_s = sum(link.delay_s for link in path)
    plane = "mqtt" if "mqtt" in (infos[a].data_plane, infos[b].data_plane) else "link"
    via: List[str] = [] if plane == "mqtt" else [link.b for link in path[:-1]]
    rate = path[0].rate_bytes_per_s if len(path) == 1 else 1 / seconds_per_byte
    return Neighbour(b, infos[b].host, infos[b].port, rate, delay_s, tuple(via), plane)
