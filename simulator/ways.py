"""The controller's links and paths, for fleets in which asking pair by pair would take minutes.

``network.py`` of the controller says what a link is and which path counts: the one with the fewest links, among equals
the one whose list of device ids comes first. Here the links are listed once and one search per device finds its paths
to all others; a test compares both on random fleets.
"""

from typing import Dict, FrozenSet, Iterable, List, Mapping, Set, Tuple

from pamdi.controller.fleet import Fleet
from pamdi.controller.network import Link, Network
from pamdi.controller.reach import TUNNELS_ALL_DEVICES_MAX
from pamdi.core.allocation import Route

Pair = FrozenSet[str]
Path = Tuple[Link, ...]


class Ways:
    def __init__(self, fleet: Fleet) -> None:
        self.ids = sorted(device.id for device in fleet.device)
        self._reached: Dict[str, Dict[str, Path]] = {}
        network = Network(fleet)
        self.links: Dict[str, Dict[str, Link]] = {id: {} for id in self.ids}
        for a, b in sorted(_declared(fleet, self.ids)):
            link = network.link(a, b)
            if link is not None:
                self.links[a][b] = link

    def paths(self, a: str) -> Dict[str, Path]:
        """From ``a`` to every device in reach, itself apart."""
        if a not in self._reached:
            self._reached[a] = self._search(a)
        return self._reached[a]

    def _search(self, a: str) -> Dict[str, Path]:
        reached: Dict[str, Path] = {a: ()}
        layer: List[str] = [a]
        while layer:
            following: List[str] = []
            for device in layer:
                for b, link in self.links[device].items():
                    if b not in reached:
                        reached[b] = (*reached[device], link)
                        following.append(b)
            layer = following
        del reached[a]
        return reached


def is_large(fleet: Fleet) -> bool:
    """Whether connections over others are made where they are needed only."""
    return len(fleet.device) > TUNNELS_ALL_DEVICES_MAX


def pairs_to_connect(ways: Ways, fleet: Fleet, routes: Mapping[str, Tuple[Route, ...]]) -> Set[Pair]:
    """Who has a connection from the beginning without having a link. In a small fleet everybody, as in
    ``controller.reach``; in a large one those that follow each other on a route, and a head and who is on its routes.
    (The controller connects a head with everybody there: 400,000 beacons a second for 200 heads of 1,000 devices. Here
    a device that gets a work of a head it is not connected with is connected then.)"""
    direct = {frozenset((a, b)) for a, others in ways.links.items() for b in others if a in ways.links[b]}
    if not is_large(fleet):
        return {frozenset((a, b)) for a in ways.ids for b in ways.ids if a < b} - direct
    pairs: Set[Pair] = set()
    for source in fleet.source:
        for route in routes.get(source.id, ()):
            stops = [source.device, *(visit.device for visit in route.visits), source.device]
            pairs |= {frozenset(two) for two in zip(stops, stops[1:])}
            pairs |= {frozenset((source.device, stop)) for stop in stops}
    return {pair for pair in pairs if len(pair) == 2} - direct


def _declared(fleet: Fleet, ids: List[str]) -> Iterable[Tuple[str, str]]:
    found: Set[Tuple[str, str]] = set()
    for link in fleet.link:
        found.add((link.from_, link.to))
        if not link.one_way:
            found.add((link.to, link.from_))
    for mesh in fleet.mesh:
        members = ids if isinstance(mesh.devices, str) else mesh.devices
        found.update((a, b) for a in members for b in members if a != b)
    return found
