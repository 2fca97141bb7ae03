"""The routes that all sources have, and what memory holds for them: where ``crowd`` puts what it finds.

A route that nobody goes any more is let go at the next ``prune``, and its residents with it.
"""

from typing import Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from pamdi.controller.solver.crowd import Crowd, Paths
from pamdi.controller.solver.evening import DAMPING_FIRST, Evening, Routes, Slope
from pamdi.controller.solver.memory import Memory, Visits
from pamdi.controller.solver.problem import Column, Problem
from pamdi.controller.solver.search import SHARE_MIN
from pamdi.controller.solver.state import Mix
from pamdi.controller.solver.steep import IDLE, cost_and_slope
from pamdi.controller.solver.variants import Floats, Ints

PLAIN = 4  # steps for one of Newton's, while many servers are full
FULL_FEW = 0.02  # of those in use
CLASSES_MAX = 16  # more are put together, the most urgent first, as long as the search goes on
FREE_MIN = 0.02  # a full server still has a price


class Pool:
    """``cells``, ``slopes`` [6, classes, servers]: what is there, and J's slope by it. ``klass`` by source, from 0."""

    def __init__(self, problem: Problem, edge: float) -> None:
        self.problem, self.edge, self.damping, self.objective = problem, edge, DAMPING_FIRST, 0.0
        demands = problem.demands
        count = max(d.klass for d in demands)
        self.classes = min(count, CLASSES_MAX)
        self.klass: Ints = np.array([(d.klass - 1) * self.classes // count for d in demands], dtype=np.intp)
        self.rate_hz: Floats = np.array([d.spec.rate_hz for d in demands])
        self.weight: Floats = np.array([d.spec.gamma for d in demands]) * self.rate_hz
        self.penalty_s: Floats = problem.fleet.loss_penalty_s * np.array([1 - d.spec.alpha for d in demands])
        fails = [*(b.fail_probability for b in problem.boards), *(k.fail_probability for k in problem.fleet.link)]
        self._lossy = any(fails)
        none = np.zeros(0, dtype=np.intp)
        self.routes = Routes(none, np.zeros(0), np.zeros(0), none, none, np.zeros((6, 0)))
        self.visits: List[Visits] = []
        self.ways: List[int] = []  # by route its number among all visits there ever were: soonest compared
        self._ways: Dict[Visits, int] = {}
        self._numbers: Dict[Tuple[int, int], int] = {}  # of a source's routes, by way
        self.slopes: Floats = np.empty((6, self.classes, len(problem.server_names)))
        self.slopes[:] = IDLE[:, None, None]
        self.cells: Floats = np.zeros_like(self.slopes)
        self.memory = Memory(problem)

    # -- routes come and go ----------------------------------------------------------------------------------------

    def offer(self, crowd: Crowd, paths: Paths, share: float) -> Set[int]:
        """Each of ``paths`` for which there is memory gets ``share`` more. Returns the sources that have one."""
        visits, known = crowd.visits(paths), len(self.visits)
        if not self._numbers:
            self._numbers = {one: n for n, one in enumerate(zip(self.routes.owner.tolist(), self.ways))}
        number = np.full(len(visits), -1)
        for n, (s, mine) in enumerate(zip(paths.source.tolist(), visits)):
            way = self._ways.setdefault(mine, len(self._ways))
            at = self._numbers.get((s, way))
            if at is None and self.memory.hold(crowd.model, mine):
                self._numbers[s, way] = at = self._enlist(mine, way)
            number[n] = -1 if at is None else at
        fresh = np.full(len(visits), -1)
        numbers, first = np.unique(number, return_index=True)
        first = first[numbers >= known]
        fresh[first] = number[first]
        route, server, sums = crowd.asked(paths)
        sums = self._scaled(sums, paths.source[route])
        new = fresh[route] >= 0
        self._append(paths.source[first], self._fixed(crowd, paths, visits, first),
                     fresh[route[new]], server[new], sums[:, new])  # fmt: skip
        some = number >= 0
        if share:
            np.add.at(self.routes.share, number[some], share)
            use = some[route]
            self._load(server[use], paths.source[route[use]], sums[:, use] * share)
        return set(paths.source[some].tolist())

    def seed(self, mixes: Sequence[Mix]) -> None:
        """Begin with these."""
        for s, mix in enumerate(mixes):
            for column, share in mix:
                if not self.memory.hold(self.problem.demands[s].model, column.visits):
                    continue
                owner, count = np.array([s], dtype=np.intp), len(column.uses)
                way = self._ways.setdefault(column.visits, len(self._ways))
                self._numbers[s, way] = at = self._enlist(column.visits, way)
                sums = self._scaled(np.array([one for _, one in column.uses]).T, np.repeat(owner, count))
                server = np.array([one for one, _ in column.uses], dtype=np.intp)
                self._append(owner, self.weight[owner] * column.fixed_s, np.full(count, at), server, sums)
                self.routes.share[at] = share
        self.prune()

    def prune(self) -> None:
        """Without the routes that nobody goes. Shares sum to 1 again."""
        r = self.routes
        going = r.share > SHARE_MIN
        total = np.bincount(r.owner, np.where(going, r.share, 0.0), len(self.klass))
        for n in np.flatnonzero(~going).tolist():
            self.memory.let_go(self.problem.demands[int(r.owner[n])].model, self.visits[n])
        order = np.flatnonzero(going)
        self._reorder(order[np.argsort(r.owner[order], kind="stable")])
        self.routes = self.routes._replace(share=self.routes.share / total[self.routes.owner])
        self.even_out(0)

    def mixes(self) -> List[Mix]:
        found: List[List[Tuple[Column, float]]] = [[] for _ in self.klass]
        for s, visits, share in zip(self.routes.owner.tolist(), self.visits, self.routes.share.tolist()):
            column = self.problem.column(s, visits)
            if column is not None:
                found[s].append((column, share))
        return [tuple(mix) for mix in found]

    def _scaled(self, sums: Floats, owner: Ints) -> Floats:
        """As ``servers.scaled``: [6, uses]."""
        rate, weight = self.rate_hz[owner], self.weight[owner]
        return sums * np.stack((weight, weight, weight, rate, rate, rate))

    def _fixed(self, crowd: Crowd, paths: Paths, visits: List[Visits], some: Ints) -> Floats:
        owner = paths.source[some]
        if not self._lossy:
            return np.asarray(self.weight[owner] * (crowd.delays_s(paths)[some] + self.penalty_s[owner]))
        columns = [self.problem.column(int(s), visits[n]) for s, n in zip(owner, some)]
        return np.asarray(self.weight[owner] * np.array([np.inf if c is None else c.fixed_s for c in columns]))

    def _enlist(self, visits: Visits, way: int) -> int:
        """The number of a new route."""
        self.visits.append(visits)
        self.ways.append(way)
        return len(self.visits) - 1

    def _append(self, owner: Ints, fixed: Floats, route: Ints, server: Ints, sums: Floats) -> None:
        more = Routes(owner, np.zeros(len(owner)), fixed, route, server, sums)
        self.routes = Routes(*(np.concatenate((a, b), axis=-1) for a, b in zip(self.routes, more)))

    def _reorder(self, order: Ints) -> None:
        r = self.routes
        place = np.full(len(r.owner), -1)
        place[order] = np.arange(len(order))
        route = place[r.route]
        some = route >= 0
        self.routes = Routes(r.owner[order], r.share[order], r.fixed[order], route[some], r.server[some],
                             r.sums[:, some])  # fmt: skip
        self.visits = [self.visits[n] for n in order.tolist()]
        self.ways = [self.ways[n] for n in order.tolist()]
        self._numbers = {}

    # -- prices ----------------------------------------------------------------------------------------------------

    def even_out(self, steps: int) -> None:
        """Shares, slopes and J are new afterwards."""
        owner = self.routes.owner
        if (np.diff(owner) < 0).any():
            self._reorder(np.argsort(owner, kind="stable"))
        evening = Evening(self.routes, self.klass, self.classes, self.edge)
        if (self.cells[5].sum(axis=0) >= 1.0).sum() > FULL_FEW * len(evening.servers):
            share, here = evening.plainly(PLAIN * steps)
        else:
            share, here, self.damping = evening.together(steps, self.damping)
        self._settle(evening, share, here)

    def _settle(self, evening: Evening, share: Floats, here: Slope) -> None:
        self.routes, self.objective = self.routes._replace(share=share), here.objective
        self.slopes[:] = IDLE[:, None, None]
        self.cells[:] = 0.0
        self.slopes[:, :, evening.servers] = here.by_sum.reshape(evening.shape)
        self.cells[:, :, evening.servers] = here.cells.reshape(evening.shape)

    def means(self, slopes: Floats) -> Optional[Floats]:
        """By source, what one of its works costs as it goes now, were ``slopes`` the prices. None where routes cost
        what no price tells: while a server is full, and where works are lost on the way."""
        if self.full() or self._lossy:
            return None
        r = self.routes
        uses = np.einsum("nu,nu->u", r.sums, slopes[:, self.klass[r.owner[r.route]], r.server])
        costs = r.fixed + np.bincount(r.route, uses, len(r.owner))
        total = np.bincount(r.owner, costs * r.share, len(self.klass)) - self.weight * self.penalty_s
        return np.asarray(total / self.rate_hz)

    def full(self) -> bool:
        return bool((self.cells[5].sum(axis=0) >= 1.0).any())

    def stuck(self) -> Set[int]:
        """The sources that meet a full server."""
        r = self.routes
        at = (self.cells[5].sum(axis=0) >= 1.0)[r.server]
        return set(r.owner[r.route[at]].tolist())

    def rooms(self) -> Floats:
        """[2, classes, servers], as ``Crowd.priced_for`` asks."""
        free = np.maximum(1.0 - np.cumsum(self.cells[5], axis=0), FREE_MIN)
        return np.stack((free, np.broadcast_to(free[-1:], free.shape)))

    def _load(self, server: Ints, owner: Ints, sums: Floats) -> None:
        for n in range(6):
            np.add.at(self.cells[n], (self.klass[owner], server), sums[n])
        touched = np.unique(server)
        self.slopes[:, :, touched] = cost_and_slope(self.cells[:, :, touched], self.edge)[1]
