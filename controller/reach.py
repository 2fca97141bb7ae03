"""Who can talk to whom, and how: directly, over other devices, or over the broker.

A small fleet's devices may all talk to each other. In a large one that would be a million tunnels, so there a tunnel
is made only where a work may need one: between a source's device and everybody, since the answer goes there, and
between devices that follow each other on a route. Both ends of a pair come to the same conclusion.
"""

from typing import Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Set, Tuple

from pamdi.controller.fleet import DeviceEntry
from pamdi.controller.measured_links import Figures, Pair, with_measured
from pamdi.controller.narrow import BriefNeighbour, is_small
from pamdi.controller.network import Network
from pamdi.controller.wanted import Wanted
from pamdi.core.allocation import DeviceInfo, Neighbour, Route

TUNNELS_ALL_DEVICES_MAX = 32
STEPS_MAX = 50_000  # of looking for neighbours in a call: some tenths of a second
FAR_STEPS = 3  # for one that is not reached directly
BEGINNINGS_MAX = 3  # then all is done in one call

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


class Ground(NamedTuple):
    """What a network is made from."""

    wanted: Wanted
    boards: List[DeviceEntry]
    measured: Dict[Pair, Figures]

    def network(self) -> Network:
        return Network(with_measured(self.wanted.fleet(self.boards), self.measured))


class Neighbourhood:
    """Everybody's neighbours, kept while the same are asked for. A thousand devices have a million, which takes
    seconds: a call does a part of it. Who asks for others before all are there begins anew, but not for ever."""

    def __init__(self) -> None:
        self._asked: Optional[Tuple[Ground, Mapping[str, DeviceInfo], Optional[Tunnels]]] = None
        self._network: Optional[Network] = None
        self._known: Dict[str, Tuple[Neighbour, ...]] = {}
        self._beginnings = 0

    def of_all(
        self, ground: Ground, infos: Mapping[str, DeviceInfo], tunnels: Optional[Tunnels]
    ) -> Optional[Dict[str, Tuple[Neighbour, ...]]]:
        """By device; None: the next call goes on."""
        if self._network is None or self._asked is None or self._asked[0] != ground:
            self._network = ground.network()
        if self._asked != (ground, infos, tunnels):
            self._asked, self._known = (ground, infos, tunnels), {}
            self._beginnings += 1
        steps = 0
        for id in infos:
            if id not in self._known:
                if steps >= STEPS_MAX and self._beginnings <= BEGINNINGS_MAX:
                    return None
                self._known[id] = neighbours_of(id, self._network, infos, tunnels)
                steps += sum(FAR_STEPS if neighbour.via else 1 for neighbour in self._known[id])
        self._beginnings = 0
        return self._known


def neighbours_of(
    id: str, network: Network, infos: Mapping[str, DeviceInfo], tunnels: Optional[Tunnels]
) -> Tuple[Neighbour, ...]:
    """In order of their ids."""
    direct = set(network.beside(id))
    if tunnels is None:
        others = set(infos)
    else:
        others = direct | tunnels.get(id, set())
    brief = not is_small(len(infos))
    found = (_neighbour(id, other, network, infos, brief) for other in sorted(others & set(infos)) if other != id)
    return tuple(neighbour for neighbour in found if neighbour is not None)


def _neighbour(a: str, b: str, network: Network, infos: Mapping[str, DeviceInfo], brief: bool) -> Optional[Neighbour]:
    direct, info = network.link(a, b), infos[b]
    plane = "mqtt" if "mqtt" in (infos[a].data_plane, info.data_plane) else "link"
    kind = BriefNeighbour if brief else Neighbour
    if direct is not None and network.link(b, a) is not None:  # most pairs of a mesh, which has very many
        return kind(b, info.host, info.port, direct.rate_bytes_per_s, direct.delay_s, (), plane)
    path = network.path(a, b)
    if not path or not (network.both_ways or network.path(b, a)):
        return None
    seconds_per_byte = sum(1 / link.rate_bytes_per_s for link in path)  # store and forward: the links' times add up
    delay_s = sum(link.delay_s for link in path)
    via: List[str] = [] if plane == "mqtt" else [link.b for link in path[:-1]]
    rate = path[0].rate_bytes_per_s if len(path) == 1 else 1 / seconds_per_byte
    host, port = ("", 0) if brief and via else (info.host, info.port)
    return kind(b, host, port, rate, delay_s, tuple(via), plane)
