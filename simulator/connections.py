"""Which devices are connected at present: links, and ways over other devices that look like links.

A crash is noticed at once (the kernel closes what the process had open), a cut only after ``silent_s``. Both ends of a
connection hear of its end, each after its own time on the way; a new life of it begins ``reconnect_s`` after both ends
and all that lies between are there again. A way over others breaks when anything on it does.
"""

from typing import TYPE_CHECKING, Any, Dict, FrozenSet, List, Set, Tuple

from pamdi.core import events as ev
from pamdi.simulator.documents import Placing
from pamdi.simulator.machine import Machine, Pair, Peer
from pamdi.simulator.server import Line, Server
from pamdi.simulator.turns import Turns
from pamdi.simulator.ways import Path

if TYPE_CHECKING:
    from pamdi.simulator.world import World


class Connections:
    def __init__(self, world: "World", placing: Placing) -> None:
        self._world = world
        self._heap = world.heap
        self.lines: Dict[Tuple[str, str], Line] = {}
        self.media: Dict[str, Server] = {}
        self._pairs: Dict[FrozenSet[str], Pair] = {}
        self._over: Dict[str, List[Pair]] = {id: [] for id in world.machines}
        self._ways = placing.ways
        for a, to in placing.paths.items():
            for b, path in to.items():
                if len(path) == 1:
                    self.lines[a, b] = Line(a, b, path[0].rate_bytes_per_s, path[0].delay_s, self._server(path[0]))
        paths = placing.paths
        shortest_first = sorted(
            (max(len(path), len(paths[b][a])), a, b) for a, to in paths.items() for b, path in to.items() if a < b
        )
        for _, a, b in shortest_first:  # what lies on the way of others comes before them
            self._connect(a, b, paths[a][b], paths[b][a])

    def pair(self, a: str, b: str) -> "Pair | None":
        return self._pairs.get(frozenset((a, b)))

    def reach(self, machine: Machine, head: str) -> None:
        """``machine`` of a large fleet has got a work of ``head``, whom it must be able to answer: connect them."""
        if head in machine.peers or head == machine.id:
            return
        there, back = self._ways.paths(machine.id).get(head), self._ways.paths(head).get(machine.id)
        if there is None or back is None:
            return
        pair = self._connect(machine.id, head, there, back)
        for x, y, path in ((machine.id, head, there), (head, machine.id, back)):
            self._world.documents.add_neighbour(x, y, path)
            self._world.allocate(self._world.machines[x])
        self._try(pair)

    # -- what happens to devices and links ---------------------------------------------------------------------------

    def started(self, machine: Machine) -> None:
        for peer in machine.peers.values():
            if peer.to.device is not None:
                self._heap.put(self._heap.now + self._world.settings.result_s, self._state, (peer.to, machine, True))
        for pair in self._touching(machine):
            self._try(pair)

    def crashed(self, machine: Machine) -> None:
        for pair in self._touching(machine):
            self._break(pair)
        for peer in machine.peers.values():
            self._heap.put(self._heap.now + self._world.settings.result_s, self._state, (peer.to, machine, False))

    def cut(self, pair: Pair) -> None:
        """Nothing gets through; both ends notice after ``silent_s``, unless it is mended before."""
        for each in (pair, *pair.dependents):
            each.cut = True
            self._heap.put(self._heap.now + self._world.settings.silent_s, self._silent, (each, each.life))

    def mend(self, pair: Pair) -> None:
        for each in (pair, *pair.dependents):
            if each is not pair and any(needed.cut for needed in each.needs):
                continue
            each.cut = False
            held, each.held = each.held, []
            self._world.bring(held)
            self._try(each)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _server(self, link: Any) -> Server:
        if link.server[0] != "medium":
            return Server(self._heap)
        medium = Turns if self._world.settings.stations == "turns" else Server
        return self.media.setdefault(link.server[1], medium(self._heap))

    def _connect(self, a: str, b: str, there: Path, back: Path) -> Pair:
        ways = {a: there, b: back}
        machines = self._world.machines
        needs: Set[Pair] = set()
        via: Set[str] = set()
        for way in ways.values():
            if len(way) > 1:
                pairs = (self._pairs.get(frozenset((link.a, link.b))) for link in way)
                needs |= {pair for pair in pairs if pair is not None and not pair.via}
                via |= {link.b for link in way[:-1]}
        ordered = tuple(sorted(needs, key=lambda pair: (pair.a.id, pair.b.id)))
        pair = Pair(machines[a], machines[b], ordered, tuple(machines[id] for id in sorted(via)))
        self._pairs[frozenset((a, b))] = pair
        for id in via:
            self._over[id].append(pair)
        for x, y in ((a, b), (b, a)):
            lines = tuple(self.lines[link.a, link.b] for link in ways[x])
            machines[x].peers[y] = Peer(machines[y], pair, lines)
        return pair

    def _touching(self, machine: Machine) -> List[Pair]:
        return [*(peer.pair for peer in machine.peers.values()), *self._over[machine.id]]

    def _try(self, pair: Pair) -> None:
        if pair.can_be_up() and not pair.up:
            self._heap.put(self._heap.now + self._world.settings.reconnect_s, self._open, (pair, pair.life))

    def _open(self, argument: Tuple[Pair, int]) -> None:
        pair, life = argument
        if pair.up or pair.life != life or not pair.can_be_up():
            return
        pair.up = True
        for machine, other in ((pair.a, pair.b), (pair.b, pair.a)):
            self._world.feed(machine, ev.LinkUp(other.id, other.life))
        for dependent in pair.dependents:
            self._try(dependent)

    def _break(self, pair: Pair) -> None:
        if not pair.up:
            return
        pair.up = False
        pair.life += 1
        pair.held = []
        for machine, other in ((pair.a, pair.b), (pair.b, pair.a)):
            peer = machine.peers[other.id]
            self._heap.put(self._heap.now + peer.delay_s, self._tell_down, (machine, machine.life, other, pair))
            for line in peer.lines:
                line.server.drop_dead()
        for dependent in pair.dependents:
            self._break(dependent)

    def _silent(self, argument: Tuple[Pair, int]) -> None:
        pair, life = argument
        if pair.cut and pair.life == life:
            self._break(pair)

    def _tell_down(self, argument: Tuple[Machine, int, Machine, Pair]) -> None:
        machine, life, other, pair = argument
        if machine.life == life and not pair.up:  # up again already: the core takes LinkUp for both
            self._world.feed(machine, ev.LinkDown(other.id))

    def _state(self, argument: Tuple[Machine, Machine, bool]) -> None:
        """The retained state topic of ``other``, as the broker tells it: only the present one counts."""
        machine, other, online = argument
        if online == (other.device is not None):
            self._world.feed(machine, ev.PeerState(other.id, "online" if online else "offline"))
