"""Who can talk to whom, and how: directly, over other devices, or over the broker.

A small fleet's devices may all talk to each other. In a large one that would be a million tunnels, so there a tunnel
is made only where a work may need one: between a source's device and everybody, since the answer goes there, and
between devices that follow each other on a route. Both ends of a pair come to the same conclusion.
"""

from typing import Dict, FrozenSet, Iterable, List, Mapping, Optional, Set, Tuple

from pamdi.controller.network import Network
from pamdi.core.allocation import DeviceInfo, Neighbour, Route

TUNNELS_ALL_DEVICES_MAX = 32

Tunnels = Mapping[str, Set[str]]  # by device, with whom


def who_needs_a_tunnel(
    ids: Iterable[str], heads: FrozenSet[str], routes: Mapping[str, Tuple[Route, ...]]
) -> Optional[Tunnels]:
    """Beyond the direct links; None: every pair. ``heads``: the devices of the admitted sources."""
    everybody = list(ids)
    if len(everybody) <= TUNNELS_ALL_DEVICES_MAX:
        return None
    tunnels: Dict[str, Set[str]] = {id: set(heads) for id in everybody}
    tunnels.update((head, set(everybody)) for head in heads)
    for ways in routes.values():
        for route in ways:
            for a, b in zip(route.visits, route.visits[1:]):
                tunnels.setdefault(a.device, set()).add(b.device)
                tunnels.setdefault(b.device, set()).add(a.device)
    return tunnels


class Neighbourhood:
    """Everybody's neighbours in one network, kept while the same are asked for: a thousand devices have a million."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._asked: Optional[Tuple[Mapping[str, DeviceInfo], Optional[Tunnels]]] = None
        self._known: Dict[str, Tuple[Neighbour, ...]] = {}

    def of_all(self, infos: Mapping[str, DeviceInfo], tunnels: Optional[Tunnels]) -> Dict[str, Tuple[Neighbour, ...]]:
        """By device."""
        if self._asked != (infos, tunnels):
            self._asked = (infos, tunnels)
            self._known = {id: neighbours_of(id, self._network, infos, tunnels) for id in infos}
        return self._known


def neighbours_of(
    id: str, network: Network, infos: Mapping[str, DeviceInfo], tunnels: Optional[Tunnels]
) -> Tuple[Neighbour, ...]:
    """In order of their ids."""
    direct = {link.b for link in network.neighbours(id)}
    if tunnels is None:
        others = set(infos)
    else:
        others = direct | tunnels.get(id, set())
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
