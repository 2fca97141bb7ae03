"""The controller's links and paths, for fleets in which asking pair by pair would take minutes.

``network.py`` of the controller says what a link is and which path counts: the one with the fewest links, among equals
the one whose list of device ids comes first. Here the links are listed once and one search per device finds its paths
to all others; a test compares both on random fleets.
"""

from typing import Dict, FrozenSet, Iterable, List, Mapping, Set, Tuple

from pamdi.controller.fleet import Fleet, Unit
from pamdi.controller.network import Link, Network
from pamdi.controller.reach import TUNNELS_ALL_DEVICES_MAX
from pamdi.core.allocation import Route

Pair = FrozenSet[str]
Path = Tuple[Link, ...]


class Ways:
    def __init__(self, fleet: Fleet) -> None:
        self.ids = sorted(device.id for device in fleet.device)
        network = Network(fleet)
        self.links: Dict[str, Dict[str, Link]] = {id: {} for id in self.ids}
        for a, b in sorted(_declared(fleet, self.ids)):
            link = network.link(a, b)
            if link is not None:
                self.links[a][b] = link

    def paths(self, a: str) -> Dict[str, Path]:
        """From ``a`` to every device in reach, itself apart."""
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


def pairs_to_connect(
    ways: Ways, fleet: Fleet, holds: Mapping[str, FrozenSet[Unit]], routes: Mapping[str, Tuple[Route, ...]]
) -> Set[Pair]:
    """Who needs a connection without having a link. In a small fleet everybody, as in ``controller.reach``; in a large
    one a head and who holds something of its sources' models (nobody else ever has a work of its), and devices that
    follow each other on a route."""
    direct = {frozenset((a, b)) for a, others in ways.links.items() for b in others if a in ways.links[b]}
    if len(ways.ids) <= TUNNELS_ALL_DEVICES_MAX:
        return {frozenset((a, b)) for a in ways.ids for b in ways.ids if a < b} - direct
    holders: Dict[str, List[str]] = {}
    for id, units in holds.items():
        for model in {model for model, _ in units}:
            holders.setdefault(model, []).append(id)
    pairs = {frozenset((s.device, id)) for s in fleet.source for id in holders.get(s.model, ()) if id != s.device}
    for some in routes.values():
        for route in some:
            pairs |= {frozenset((a.device, b.device)) for a, b in zip(route.visits, route.visits[1:])}
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
