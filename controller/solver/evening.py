"""All sources even out their shares at once: no new route, only how many works go which way.

One source after the other goes the way of ``Search.share``: right in each step, but what a source gives up the next one
takes, and at a load that matters some hundred rounds go by before it settles. Each for itself at the same time
(Bertsekas and Gallager, *Data Networks*, 5.7) is hardly better: many routes cross at few servers near full, and only a
tenth of such a step can be gone. So a step asks how the slopes turn when all move: Newton's, solved roughly by a few
conjugate gradients among the shares that may move (Bertsekas and Gafni 1983), damped where J is not as the slopes say
(Levenberg, Marquardt). While a server is full, J is a straight line of great slope there, and the plain step serves.
"""

from typing import NamedTuple, Tuple

import numpy as np

from pamdi.controller.solver.descent import SETTLED, Move, descend, even_move
from pamdi.controller.solver.steep import cost_and_slope
from pamdi.controller.solver.variants import Floats, Ints

CLOSER = 0.5  # to full, in one step
GROWTH = 1e-3  # by which everything grows for a look at the bend
SHORTEST = 1 / 32  # of a step, before it is given up
GRADIENTS = 5  # conjugate ones, per step of Newton's
ENOUGH = 0.01  # of what they began with: the rest is not worth another
DAMPING_FIRST, DAMPING_MIN, DAMPING_MAX = 1.0, 0.1, 100.0  # of the bends
BUSY_MIN = 0.02  # load from which on a server's slopes turn
LITTLE = 1e-4  # the largest share moved to see how the slopes turn
ADDED = (0, 1, 3, 4, 5)  # of the six sums; ``last`` costs what it costs, whoever else is there


class Routes(NamedTuple):
    """By route, those of a source together: ``owner``, ``share`` of the source's works, ``fixed`` (J of a share of 1
    that depends on nobody). By use of a server: its ``route``, the ``server``, ``sums`` [6, uses] of a share of 1."""

    owner: Ints
    share: Floats
    fixed: Floats
    route: Ints
    server: Ints
    sums: Floats


class Slope(NamedTuple):
    """``cells`` [6, classes * servers]: what there is; ``by_sum``: J's slope by each."""

    objective: float
    cells: Floats
    by_sum: Floats


class Evening:
    """``klass`` [sources], from 0; ``servers``: those in use."""

    def __init__(self, routes: Routes, klass: Ints, classes: int, edge: float) -> None:
        self.routes, self.klass, self.edge = routes, klass, edge
        used = np.bincount(routes.server) > 0
        self.servers: Ints = np.flatnonzero(used)
        self.shape = (6, classes, len(self.servers))
        self.place: Ints = (np.cumsum(used) - 1)[routes.server]
        self.cell: Ints = klass[routes.owner[routes.route]] * len(self.servers) + self.place
        self.fixed: Floats = routes.fixed + self._by_route(routes.sums[2])
        self.begins: Ints = np.flatnonzero(np.append(True, np.diff(routes.owner) > 0))
        self.sizes: Ints = np.diff(np.append(self.begins, len(routes.owner)))
        self.owner: Ints = np.repeat(np.arange(len(self.begins)), self.sizes)

    # -- steps -----------------------------------------------------------------------------------------------------

    def plainly(self, steps: int) -> Tuple[Floats, Slope]:
        """Each source as if the others stayed; all shortened together until J falls."""
        return descend(self.routes.share, steps, SHORTEST, self.slope, self._move)

    def together(self, steps: int, damping: float) -> Tuple[Floats, Slope, float]:
        """Newton's. Returns the damping that served last."""
        x = self.routes.share
        here, damping = self.slope(x), max(damping, DAMPING_MIN)
        busiest = self._busiest(here)
        for _ in range(steps):
            way, step = self._direction(x, here, damping, busiest), 1.0
            following = self._within(x + way)
            there = self.slope(following)
            while there.objective >= here.objective and step > SHORTEST:
                step /= 2
                following = self._within(x + step * way)
                there = self.slope(following)
            if there.objective >= here.objective:
                if damping >= DAMPING_MAX:
                    break
                damping *= 10
                continue
            gain = here.objective - there.objective
            damping = damping / 3 if step == 1.0 else damping * 3 if step < 0.3 else damping
            x, here = following, there
            if gain <= SETTLED * abs(here.objective):
                break
        return x, here, min(damping, DAMPING_MAX)

    def _move(self, x: Floats, here: Slope) -> Move:
        return even_move(x, self.slopes(here), *self._bends(here), self.begins, self.owner)

    def _direction(self, x: Floats, here: Slope, damping: float, busiest: "Evening") -> Floats:
        """Conjugate gradients, each source's shares summing to 0; a source goes no further than ``_bends`` lets it."""
        slope, (bend, most) = self.slopes(here), self._bends(here)
        mean = np.add.reduceat(slope * x, self.begins)[self.owner]
        turns = (x > 0) | (slope < mean)
        turns &= self.sizes[self.owner] > 1  # a source's only route keeps all of it, whatever rounding says
        yielding = np.where(turns, 1.0 / (bend * (1 + damping)), 0.0)
        weight = np.maximum(np.add.reduceat(yielding, self.begins), 1e-300)

        def conditioned(rest: Floats) -> Floats:
            middle = np.add.reduceat(rest * yielding, self.begins) / weight
            return np.asarray((rest - middle[self.owner]) * yielding)

        there = busiest.slope(x)
        rest, way = -slope, np.zeros_like(x)
        best = conditioned(rest)
        along, worth = best, float(rest @ best)
        first = worth
        for n in range(GRADIENTS):
            turned = busiest._turn(there, along) + damping * bend * along
            bent = float(along @ turned)
            if bent <= 0:  # J bends the other way
                way = along if not n else way
                break
            way, rest = way + (worth / bent) * along, rest - (worth / bent) * turned
            best = conditioned(rest)
            before, worth = worth, float(rest @ best)
            if worth <= ENOUGH * first:
                break
            along = best + (worth / before) * along
        return self._shortened(self._within(x + way) - x, here, most)

    def _shortened(self, way: Floats, here: Slope, most: Floats) -> Floats:
        """No share grows by more than ``most``, and together they fill no server by more than ``CLOSER`` of what is
        free there: each source goes as far as all its routes allow."""
        far = np.minimum(1.0, most / np.maximum(way, 1e-12))
        grown = np.bincount(self.place, self.routes.sums[5] * way[self.routes.route], len(self.servers))
        room = CLOSER * np.maximum(1.0 - here.cells[5].reshape(self.shape[1:]).sum(axis=0), self.edge)
        tight = np.flatnonzero((grown > room)[self.place] & (way > 0)[self.routes.route])
        np.minimum.at(far, self.routes.route[tight], (room / np.maximum(grown, 1e-300))[self.place[tight]])
        return np.asarray(way * np.minimum.reduceat(far, self.begins)[self.owner])

    def _within(self, x: Floats) -> Floats:
        x = np.maximum(x, 0.0)
        return np.asarray(x / np.add.reduceat(x, self.begins)[self.owner])

    # -- slopes ----------------------------------------------------------------------------------------------------

    def slope(self, x: Floats) -> Slope:
        cells = self._cells(x)
        objective, by_sum = cost_and_slope(cells.reshape(self.shape), self.edge)
        return Slope(objective + float(self.fixed @ x), cells, by_sum.reshape(6, -1))

    def slopes(self, here: Slope) -> Floats:
        """Of J by each route's share."""
        return self.fixed + self._asked(here.by_sum)

    def _cells(self, x: Floats) -> Floats:
        shares, count = x[self.routes.route], self.shape[1] * self.shape[2]
        cells = np.zeros((6, count))
        for n in ADDED:
            cells[n] = np.bincount(self.cell, self.routes.sums[n] * shares, count)
        return cells

    def _asked(self, by_sum: Floats) -> Floats:
        """By route: ``by_sum`` times what it asks for."""
        uses = np.zeros(len(self.cell))
        for n in ADDED:
            uses += self.routes.sums[n] * by_sum[n][self.cell]
        return self._by_route(uses)

    def _by_route(self, uses: Floats) -> Floats:
        return np.asarray(np.bincount(self.routes.route, uses, len(self.routes.share)), dtype=np.float64)

    def _busiest(self, here: Slope) -> "Evening":
        """The same where slopes turn at all: at most servers, nearly all of them links, there is hardly anybody."""
        load = here.cells[5].reshape(self.shape[1:]).sum(axis=0)
        r = self.routes
        some = load[self.place] > BUSY_MIN
        return Evening(r._replace(route=r.route[some], server=r.server[some], sums=r.sums[:, some]),
                       self.klass, self.shape[1], self.edge)  # fmt: skip

    def _turn(self, here: Slope, along: Floats) -> Floats:
        """How the slopes turn on the way ``along``."""
        little = LITTLE / max(1e-12, float(np.abs(along).max()))
        cells = here.cells + little * self._cells(along)
        by_sum = cost_and_slope(cells.reshape(self.shape), self.edge)[1].reshape(6, -1)
        return np.asarray(self._asked(by_sum - here.by_sum) / little)

    def _bends(self, here: Slope) -> Tuple[Floats, Floats]:
        """Of J by each route's share, and by how much the share may grow. The bend is a guess: what the slope gains if
        everything around grew alike, and what a flow does to itself."""
        grown = cost_and_slope((here.cells * (1 + GROWTH)).reshape(self.shape), self.edge)[1].reshape(6, -1)
        load = here.cells[5].reshape(self.shape[1:]).sum(axis=0)[self.place]
        own = self.routes.sums[5]
        share, turn = own / np.maximum(load, own), (grown - here.by_sum) / GROWTH
        uses = self.routes.sums[0] * self.routes.sums[3]
        for n in ADDED:
            uses += self.routes.sums[n] * turn[n][self.cell] * share
        most = np.full(len(self.fixed), 1.0)
        np.minimum.at(most, self.routes.route, CLOSER * np.maximum(1.0 - load, self.edge) / own)
        return np.maximum(self._by_route(uses), 1e-300), most
