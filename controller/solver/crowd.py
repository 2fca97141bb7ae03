"""Many sources of one model, each with its own surroundings, as one layered graph: unit boundary x (source, device).

It is ``field`` for all of them at once: an arc is a whole run or a whole transfer, and the cheapest routes of fifty
sources are one pass over arrays of some thousand (source, device) pairs, in the time that three sources took alone.
Pairs are sorted by kind of device, so that the price of every run is one product of matrices: what a job asks of a
server is linear in its seconds, their square, its last piece and the squares of its pieces (``servers``).
"""

from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from pamdi.controller.solver.around import Chosen
from pamdi.controller.solver.jobs import transfers
from pamdi.controller.solver.problem import Problem, Visit
from pamdi.controller.solver.reach import Reach
from pamdi.controller.solver.variants import Floats, Ints, Variants

VISIT_S = 1e-12  # as in ``field``


class Paths(NamedTuple):
    """``count`` routes. A run each: ``run`` its route, ``row`` its pieces, ``device``; a transfer each:
    ``hop`` its route, ``link``, ``boundary``. ``source`` by route."""

    source: Ints
    run: Ints
    row: Ints
    device: Ints
    hop: Ints
    link: Ints
    boundary: Ints


class Crowd:
    """``sources`` [S] all of ``model``; ``pairs`` are (``owner``: place in ``sources``, ``device``)."""

    def __init__(
        self, problem: Problem, reach: Reach, sources: Sequence[int], listed: Variants, chosen: Chosen
    ) -> None:
        self.problem, self.reach, self.listed = problem, reach, listed
        self.sources: Ints = np.array(sources, dtype=np.intp)
        demands = [problem.demands[s] for s in sources]
        self.model = demands[0].model
        entry = problem.models[self.model]
        self.units = len(entry.memory)
        self.bytes: Floats = np.array(entry.bytes, dtype=np.float64)
        self.sizes, self.size_of = np.unique(self.bytes, return_inverse=True)  # many boundaries are alike
        self.gamma: Floats = np.array([d.spec.gamma for d in demands])
        self.rate_hz: Floats = np.array([d.spec.rate_hz for d in demands])
        self.penalty_s: Floats = problem.fleet.loss_penalty_s * np.array([d.spec.alpha for d in demands])
        self.heads: Ints = np.array([d.head for d in demands], dtype=np.intp)
        self._pairs(chosen)
        self._arcs()
        self._transfers()
        self._runs()

    # -- the graph -------------------------------------------------------------------------------------------------

    def _pairs(self, chosen: Chosen) -> None:
        """By kind of device, the head of each source among them."""
        kinds = kinds_of(self.problem, self.model)
        order = np.lexsort((chosen.device, chosen.owner, kinds.of[chosen.device]))
        self.owner: Ints = chosen.owner[order]
        self.device: Ints = chosen.device[order]
        self.devices, self.place = np.unique(self.device, return_inverse=True)
        self.kinds = kinds
        kind = kinds.of[self.device]
        self.slices = np.searchsorted(kind, np.arange(len(kinds.runs) + 1))
        self.is_head = self.device == self.heads[self.owner]
        self.head: Ints = np.zeros(len(self.sources), dtype=np.intp)
        self.head[self.owner[self.is_head]] = np.flatnonzero(self.is_head)
        by_source = np.argsort(self.owner, kind="stable")
        sizes = np.bincount(self.owner, minlength=len(self.sources))
        self.of = np.full((len(self.sources), int(sizes.max())), -1, dtype=np.intp)  # pairs by source
        place = np.arange(len(by_source)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.of[self.owner[by_source], place] = by_source

    def _arcs(self) -> None:
        reach, pairs = self.reach, len(self.device)
        mine = self.of[self.owner]  # by pair those of its source, itself among them
        begins = np.where(mine >= 0, mine, np.arange(pairs)[:, None])
        ways = reach.ways_between(self.device[begins], self.device[:, None])
        there = ways >= 0
        ways, self.begin = ways[there], begins[there]
        self.end: Ints = np.nonzero(there)[0]
        self.first: Ints = reach.first[ways]
        self.second: Ints = reach.second[ways]
        grid = reach.grid
        two = self.second >= 0
        delay_s = grid.delay_s[self.first] + np.where(two, grid.delay_s[self.second], 0.0)
        fails = grid.fails[self.first] + np.where(two, grid.fails[self.second], 0.0)
        owner = self.owner[self.begin]
        self.fixed: Floats = self.gamma[owner] * (delay_s + self.penalty_s[owner] * fails)
        start = np.searchsorted(self.end, np.arange(pairs + 1))
        self.reached: Ints = np.flatnonzero(start[1:] > start[:-1])
        self.starts: Ints = start[:-1][self.reached]
        self.arc_start: Ints = start
        self.back: Ints = np.full(pairs, -1, dtype=np.intp)  # the arc to the head
        home = np.flatnonzero(self.is_head[self.end])
        self.back[self.begin[home]] = home

    def _transfers(self) -> None:
        """A tensor of every size on every link that a source may use: [sizes, links in use by source]."""
        grid = self.reach.grid
        owner, two = self.owner[self.begin], self.second >= 0
        count = len(grid.rate)
        keys = np.concatenate((owner * count + self.first, (owner * count + self.second)[two]))
        used, slot = np.unique(keys, return_inverse=True)
        self.slot_first: Ints = slot[: len(owner)]
        self.slot_second: Ints = np.full(len(owner), len(used), dtype=np.intp)
        self.slot_second[two] = slot[len(owner) :]
        self.link_owner: Ints = used // count
        link = used % count
        self.link_server: Ints = grid.server[link]
        self.moved = transfers(self.sizes[:, None], grid.rate[link])

    def _runs(self) -> None:
        problem = self.problem
        whole_s, _ = problem.whole_everywhere(self.model)
        self.whole_s = float(np.median(whole_s))
        fails = np.array([problem.boards[d].fail_probability for d in self.device])
        self.lost_s: Floats = np.where(self.is_head, 0.0, self.penalty_s[self.owner] * fails)
        self.tables = [problem.runs(self.model, d, self.listed) for d in self.kinds.example]
        self.features: List[Floats] = []
        for found in self.tables:
            if found is None:
                self.features.append(np.full((len(self.listed.rows), 6), np.inf))
                continue
            t, end, fine = found
            self.features.append(np.stack((np.ones(len(t)), t, end, t * t, fine, self.listed.visits), axis=1))

    # -- what a route asks for -------------------------------------------------------------------------------------

    def asked(self, paths: Paths) -> Tuple[Ints, Ints, Floats]:
        """What one work on each route asks of servers: the route, the server, the six sums of ``servers``."""
        kind, grid = self.kinds.of[paths.device], self.reach.grid
        t, end, fine = np.empty(len(kind)), np.empty(len(kind)), np.empty(len(kind))
        for n, found in enumerate(self.tables):
            here = kind == n
            if found is not None:
                t[here], end[here], fine[here] = (column[paths.row[here]] for column in found)
        sums = [np.stack((np.ones(len(t)), t - end, end, t * t, fine, t))]
        t, end, fine = transfers(self.bytes[paths.boundary], grid.rate[paths.link])
        sums.append(np.stack((np.ones(len(t)), t - end, end, t * t, fine, t)))
        return (
            np.concatenate((paths.run, paths.hop)), np.concatenate((paths.device, grid.server[paths.link])),
            np.concatenate(sums, axis=1),
        )  # fmt: skip

    def delays_s(self, paths: Paths) -> Floats:
        """By route."""
        delay_s = self.reach.grid.delay_s[paths.link]
        return np.asarray(np.bincount(paths.hop, delay_s, len(paths.source)), dtype=np.float64)

    def visits(self, paths: Paths) -> List[Tuple[Visit, ...]]:
        rows = self.listed.rows
        found: List[List[Visit]] = [[] for _ in paths.source]
        for n, row, device in zip(paths.run.tolist(), paths.row.tolist(), paths.device.tolist()):
            found[n][:0] = [(first, stop, device) for first, stop in rows[row]]  # the last run comes first
        return [tuple(visits) for visits in found]


class Kinds(NamedTuple):
    """Kinds of device that take equally long for every run of a model: by device its kind, by kind one of them."""

    of: Ints
    example: List[int]
    runs: List[int]


def kinds_of(problem: Problem, model: int) -> Kinds:
    known: Dict[Tuple[str, float], int] = {}
    example: List[int] = []
    of = np.zeros(len(problem.ids), dtype=np.intp)
    for d, board in enumerate(problem.boards):
        key = (board.type, board.overhead_s)
        if key not in known:
            known[key] = len(example)
            example.append(d)
        of[d] = known[key]
    return Kinds(of, example, list(range(len(example))))
