"""Who can reach whom: directed links, looked up on demand, and the path where there is no direct link.

A link of its own beats a mesh, an earlier mesh beats a later one. Without a direct link the path is the one with the
fewest links, among equals the one whose list of device ids comes first in lexicographic order (``allocation.md``).
Nothing is spread out in advance, because a mesh of 1,000 devices has a million links.
"""

from typing import Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

from pamdi.controller.fleet import Fleet, LinkEntry, MeshEntry

Server = Tuple[str, ...]
Path = Tuple["Link", ...]


class Link(NamedTuple):
    """One directed link. ``server`` is what serves its frames: the link itself, or the medium it shares."""

    a: str
    b: str
    rate_bytes_per_s: float
    delay_s: float
    fail_probability: float
    server: Server


class Network:
    def __init__(self, fleet: Fleet) -> None:
        self._ids = sorted(device.id for device in fleet.device)
        known = self._known = frozenset(self._ids)
        self._own: Dict[Tuple[str, str], LinkEntry] = {}
        for link in fleet.link:
            self._own[link.from_, link.to] = link
            if not link.one_way:
                self._own[link.to, link.from_] = link
        self.both_ways = not any(link.one_way for link in fleet.link)  # who is reached reaches back
        self._meshes: List[Tuple[FrozenSet[str], MeshEntry]] = [
            (known if isinstance(mesh.devices, str) else known & frozenset(mesh.devices), mesh) for mesh in fleet.mesh
        ]
        self._reached: Dict[str, Set[str]] = {}
        self._reaching: Dict[str, Set[str]] = {}
        for a, b in self._own:
            self._reached.setdefault(a, set()).add(b)
            self._reaching.setdefault(b, set()).add(a)
        self._everyone = any(isinstance(mesh.devices, str) for mesh in fleet.mesh)
        self._links: Dict[Tuple[str, str], Optional[Link]] = {}
        self._paths: Dict[Tuple[str, str], Optional[Path]] = {}
        self._trees: Dict[str, Dict[str, Link]] = {}
        self._beside: Dict[str, List[str]] = {}
        self._out: Dict[str, FrozenSet[str]] = {}
        self._into: Dict[str, FrozenSet[str]] = {}

    def link(self, a: str, b: str) -> Optional[Link]:
        """The direct link from ``a`` to ``b``, if there is one."""
        if (a, b) not in self._links:
            self._links[a, b] = self._find(a, b)
        return self._links[a, b]

    def path(self, a: str, b: str) -> Optional[Path]:
        """The links from ``a`` to ``b``: empty when they are one device, None when there is no way."""
        if (a, b) not in self._paths:
            self._paths[a, b] = self._walk(a, b)
        return self._paths[a, b]

    def short_path(self, a: str, b: str) -> Optional[Path]:
        """The path, if it takes at most two links: soon found, which a longer one is not."""
        direct = self.link(a, b)
        if direct is not None or a == b:
            return () if direct is None else (direct,)
        between = self._beside_set(a) & self.before(b)
        if not between:
            return None
        first, last = self.link(a, min(between)), self.link(min(between), b)
        return None if first is None or last is None else (first, last)

    def neighbours(self, id: str) -> List[Link]:
        """The direct links that leave ``id``, by id of who is reached."""
        links = (self.link(id, other) for other in self.beside(id))
        return [link for link in links if link is not None]

    def beside(self, id: str) -> List[str]:
        """The devices that a direct link from ``id`` reaches, in order."""
        if id not in self._beside:
            self._beside[id] = sorted(self._beside_set(id))
        return self._beside[id]

    def _beside_set(self, id: str) -> FrozenSet[str]:
        return self._around(id, self._reached, self._out)

    def before(self, id: str) -> FrozenSet[str]:
        """The devices that have a direct link to ``id``."""
        return self._around(id, self._reaching, self._into)

    def _around(self, id: str, own: Dict[str, Set[str]], known: Dict[str, FrozenSet[str]]) -> FrozenSet[str]:
        if id not in known:
            found = self._known
            if not self._everyone:
                found &= own.get(id, set()).union(*(m for m, _ in self._meshes if id in m))
            known[id] = found - {id}
        return known[id]

    def _find(self, a: str, b: str) -> Optional[Link]:
        if a == b:
            return None
        found: "LinkEntry | MeshEntry | None" = self._own.get((a, b))
        if found is None:
            found = next((mesh for members, mesh in self._meshes if a in members and b in members), None)
        if found is None:
            return None
        server = ("link", a, b) if found.medium is None else ("medium", found.medium)
        return Link(a, b, found.rate_bytes_per_s, found.delay_s, found.fail_probability, server)

    def _walk(self, a: str, b: str) -> Optional[Path]:
        direct = self.link(a, b)
        if a == b or direct is not None:
            return () if direct is None else (direct,)
        short = self.short_path(a, b)
        if short is not None:
            return short
        if a not in self._trees:
            self._trees[a] = self._tree(a)
        back: List[Link] = []
        while b != a:
            last = self._trees[a].get(b)
            if last is None:
                return None
            back.append(last)
            b = last.a
        return tuple(reversed(back))

    def _tree(self, a: str) -> Dict[str, Link]:
        """The last link on the path from ``a``, by device reached."""
        # Layers from ``a``; each device is reached first by the lexicographically first of its shortest lists,
        # because a layer is kept in the order of those lists and its members' neighbours in the order of ids.
        last: Dict[str, Link] = {}
        reached, layer = {a}, [a]
        while layer:
            following: List[str] = []
            for device in layer:
                for id in [id for id in self.beside(device) if id not in reached]:
                    link = self.link(device, id)
                    if link is not None:  # None: from a device that is not of the fleet
                        last[id] = link
                        reached.add(id)
                        following.append(id)
            layer = following
        return last
