"""A fleet as the solver sees it: numbers for names, and what a route asks of each server.

A *column* is one whole route of one source: its visits, the sums that one work per second on it adds to each server
(``servers``), what does not depend on load (delays, and the price of being lost), and the residents that it needs.
"""

import math
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from pamdi.controller.fleet import Fleet, ModelEntry
from pamdi.controller.network import Link, Network, Server
from pamdi.controller.objective import FRAME_BYTES, classes, piece_seconds
from pamdi.controller.solver.servers import Sums, add
from pamdi.controller.solver.variants import Floats, Runs, Variants, runs
from pamdi.core.allocation import Route, RouteVisit, SourceSpec

Visit = Tuple[int, int, int]  # first, stop, device
Held = Tuple[int, int, int, int]  # device, model, first, stop


class Hop(NamedTuple):
    """One direct link on a path."""

    a: int
    b: int
    server: int
    rate_bytes_per_s: float
    delay_s: float
    fail_probability: float


class Column(NamedTuple):
    """``uses``: (server, sums of one work); ``fixed_s``: delays and ``loss_penalty_s`` * (1 - alpha * success)."""

    visits: Tuple[Visit, ...]
    uses: Tuple[Tuple[int, Sums], ...]
    fixed_s: float
    holds: Tuple[Held, ...]


class Demand(NamedTuple):
    """One source: ``klass`` from 1, its model and head by number."""

    spec: SourceSpec
    klass: int
    model: int
    head: int


class Problem:
    """Devices, models and sources by number. Sources are in order of class, then id."""

    def __init__(self, fleet: Fleet, network: Optional[Network] = None) -> None:
        self.fleet = fleet
        self.network = network if network is not None else Network(fleet)
        self.ids = sorted(device.id for device in fleet.device)
        self.number = {id: n for n, id in enumerate(self.ids)}
        boards = {device.id: device for device in fleet.device}
        self.boards = [boards[id] for id in self.ids]
        self.memory = [board.memory_bytes for board in self.boards]
        self.models: List[ModelEntry] = list(fleet.model)
        models = {model.id: m for m, model in enumerate(self.models)}
        klass = classes(fleet.source)
        demands = [Demand(s, klass[s.id], models[s.model], self.number[s.device]) for s in fleet.source]
        self.demands = sorted(demands, key=lambda d: (d.klass, d.spec.id))
        self.server_names: List[Server] = [("device", id) for id in self.ids]
        self._servers: Dict[Server, int] = {name: n for n, name in enumerate(self.server_names)}
        self._paths: Dict[Tuple[int, int], Optional[Tuple[Hop, ...]]] = {}
        self._pieces: Dict[Tuple[int, str], Dict[Tuple[int, int], float]] = {}
        self._transfers: Dict[Tuple[int, float], Sums] = {}
        self._short: Dict[Tuple[int, int], Optional[Tuple[Hop, ...]]] = {}
        self._known_hops: Dict[Link, Hop] = {}
        self._everywhere: "Dict[int, Tuple[Floats, np.typing.NDArray[np.bool_]]]" = {}
        self._beside: Dict[int, List[int]] = {}
        self._runs: Dict[Tuple[int, str, float, int], Runs] = {}
        self._memory: Dict[Tuple[int, int, int], int] = {}

    def server(self, name: Server) -> int:
        if name not in self._servers:
            self._servers[name] = len(self.server_names)
            self.server_names.append(name)
        return self._servers[name]

    def path(self, a: int, b: int) -> Optional[Tuple[Hop, ...]]:
        """The links from ``a`` to ``b`` as the document chooses them; None when there is no way."""
        if (a, b) not in self._paths:
            self._paths[a, b] = self._hops(self.network.path(self.ids[a], self.ids[b]))
        return self._paths[a, b]

    def short_path(self, a: int, b: int) -> Optional[Tuple[Hop, ...]]:
        """The same, when it takes at most two links."""
        if (a, b) in self._paths:
            path = self._paths[a, b]
            return path if path is not None and len(path) <= 2 else None
        if (a, b) not in self._short:
            path = self._hops(self.network.short_path(self.ids[a], self.ids[b]))
            self._short[a, b] = path
            if path is not None:
                self._paths[a, b] = path
        return self._short[a, b]

    def _hops(self, links: Optional[Tuple[Link, ...]]) -> Optional[Tuple[Hop, ...]]:
        return None if links is None else tuple(self.hop(link) for link in links)

    def hop(self, link: Link) -> Hop:
        if link not in self._known_hops:
            self._known_hops[link] = Hop(
                self.number[link.a], self.number[link.b], self.server(link.server),
                link.rate_bytes_per_s, link.delay_s, link.fail_probability,
            )  # fmt: skip
        return self._known_hops[link]

    def beside(self, a: int) -> List[int]:
        """The devices that a direct link from ``a`` reaches."""
        if a not in self._beside:
            self._beside[a] = [self.number[id] for id in self.network.beside(self.ids[a])]
        return self._beside[a]

    def whole_s(self, device: int, model: int) -> float:
        """Seconds of the whole model in one piece; infinite where it cannot run."""
        if not self.able(device, model):
            return math.inf
        return self.piece_s(device, model, 0, len(self.models[model].memory))

    def at_best(self, model: int) -> Tuple[float, float, float]:
        """The least seconds of the model if each piece had the fastest device that is there and no overhead, the
        highest rate and the least delay of any link (rate 0 where there is none)."""
        kinds = sorted({board.type for board in self.boards} & self.models[model].seconds.keys())
        links, meshes = self.fleet.link, self.fleet.mesh
        rates = [link.rate_bytes_per_s for link in links] + [mesh.rate_bytes_per_s for mesh in meshes]
        delays = [link.delay_s for link in links] + [mesh.delay_s for mesh in meshes]
        return least_seconds(self.models[model], kinds), max(rates, default=0.0), min(delays, default=0.0)

    def whole_everywhere(self, model: int) -> Tuple[Floats, "np.typing.NDArray[np.bool_]"]:
        """By device: ``whole_s`` (1 where it is infinite), and whether it can run and hold any unit of the model."""
        if model not in self._everywhere:
            seconds = np.array([self.whole_s(d, model) for d in range(len(self.ids))])
            room = np.array(self.memory) >= min(self.models[model].memory)
            able = np.isfinite(seconds)
            self._everywhere[model] = (np.where(able, seconds, 1.0), room & able)
        return self._everywhere[model]

    def able(self, device: int, model: int) -> bool:
        return self.boards[device].type in self.models[model].seconds

    def piece_s(self, device: int, model: int, first: int, stop: int) -> float:
        """Seconds of one visit, with the device's ``overhead_s``."""
        board = self.boards[device]
        known = self._pieces.setdefault((model, board.type), {})
        if (first, stop) not in known:
            known[first, stop] = piece_seconds(self.models[model], board.type, first, stop)
        return known[first, stop] + board.overhead_s

    def runs(self, model: int, device: int, listed: Variants) -> Optional[Runs]:
        """Seconds of every run on ``device``; None when it cannot run the model."""
        board = self.boards[device]
        if not self.able(device, model):
            return None
        key = (model, board.type, board.overhead_s, len(listed.rows))
        if key not in self._runs:
            seconds = {piece: self.piece_s(device, model, *piece) for piece in listed.pieces}
            self._runs[key] = runs(listed, seconds)
        return self._runs[key]

    def memory_of(self, held: Held) -> int:
        key = held[1:]
        if key not in self._memory:
            self._memory[key] = sum(self.models[held[1]].memory[held[2] : held[3]])
        return self._memory[key]

    def transfer(self, nbytes: int, rate_bytes_per_s: float) -> Sums:
        key = (nbytes, rate_bytes_per_s)
        if key not in self._transfers:
            full, rest = divmod(nbytes, FRAME_BYTES)
            frame_s, rest_s, total_s = (
                FRAME_BYTES / rate_bytes_per_s,
                rest / rate_bytes_per_s,
                nbytes / rate_bytes_per_s,
            )
            last_s = rest_s if rest else (frame_s if full else 0.0)
            fine = full * frame_s * frame_s + rest_s * rest_s
            self._transfers[key] = (1.0, total_s - last_s, last_s, total_s * total_s, fine, total_s)
        return self._transfers[key]

    def column(self, s: int, visits: Sequence[Visit]) -> Optional[Column]:
        """The column of these visits; None when a tensor has no way."""
        demand = self.demands[s]
        model = self.models[demand.model]
        uses: Dict[int, Sums] = {}
        delay_s, success = 0.0, 1.0
        crossed, touched = set(), {demand.head}
        at, carried = demand.head, model.bytes[0]
        run: List[float] = []

        def close(device: int) -> None:
            total_s, last_s = math.fsum(run), run[-1]
            sums = (1.0, total_s - last_s, last_s, total_s * total_s, math.fsum(p * p for p in run), total_s)
            uses[device] = add(uses[device], sums) if device in uses else sums

        for first, stop, device in (*visits, (len(model.memory), 0, demand.head)):
            if run and (device != at or not stop):
                close(at)
                run = []
            if device != at:
                path = self.path(at, device)
                if path is None:
                    return None
                for hop in path:
                    sums = self.transfer(carried, hop.rate_bytes_per_s)
                    uses[hop.server] = add(uses[hop.server], sums) if hop.server in uses else sums
                    delay_s += hop.delay_s
                    if (hop.a, hop.b) not in crossed:
                        crossed.add((hop.a, hop.b))
                        success *= 1 - hop.fail_probability
            if stop:
                run.append(self.piece_s(device, demand.model, first, stop))
                touched.add(device)
                at, carried = device, model.bytes[stop]
        for device in sorted(touched):
            success *= 1 - self.boards[device].fail_probability
        fixed_s = delay_s + self.fleet.loss_penalty_s * (1 - demand.spec.alpha * success)
        holds = tuple(sorted({(device, demand.model, first, stop) for first, stop, device in visits}))
        return Column(tuple(visits), tuple(uses.items()), fixed_s, holds)

    def alone(self, s: int, column: Column) -> float:
        """Seconds (and penalty) of one work that waits for nobody: a lower bound of what it costs anywhere."""
        return column.fixed_s + math.fsum(sums[1] + sums[2] for _, sums in column.uses)

    def route(self, column: Column, fraction: float, latency_s: float = 0.0) -> Route:
        visits = tuple(RouteVisit(first, stop, self.ids[device]) for first, stop, device in column.visits)
        return Route(fraction, latency_s, visits)


def least_seconds(model: ModelEntry, kinds: Sequence[str], first: int = 0, stop: Optional[int] = None) -> float:
    """Of units [first, stop), however they are cut into pieces, each on the fastest of ``kinds``. A merged segment may
    take less than its units, or a little more."""
    stop = len(model.memory) if stop is None else stop
    if not any(model.merged.get(kind) for kind in kinds):
        return math.fsum(min(model.seconds[kind][u] for kind in kinds) for u in range(first, stop))
    least = [0.0]  # of [first, first + n)
    for end in range(first + 1, stop + 1):
        least.append(
            min(
                least[begin - first] + piece_seconds(model, kind, begin, end)
                for begin in range(first, end)
                for kind in kinds
            )
        )
    return least[-1]
