"""In fleets of meshes or few links (else ``evening``): all sources even out their routes at once, only the shares.

One source after the other goes the way of ``Search.share``: right in each step, but what a source gives up the next one
takes, and at a load that matters some hundred rounds go by before it settles. Here every source moves in the same step
towards one slope for all its routes, each by its gap over its bend (Bertsekas and Gallager, *Data Networks*, 5.7:
gradient projection for routing with congestion costs), and all moves are shortened together until J falls. The bend is
a guess: what the slope gains if everything around grew alike, and what a flow does to itself.

J and its slope are those of ``servers``, worked out for [servers, classes] at once.
"""

from typing import Dict, List, NamedTuple, Tuple

import numpy as np

from pamdi.controller.solver.descent import Move, descend, even_move
from pamdi.controller.solver.search import SHARE_MIN, Search
from pamdi.controller.solver.servers import scaled
from pamdi.controller.solver.state import Mix, mixed
from pamdi.controller.solver.variants import Floats, Ints

STEPS_MAX = 16
CLOSER = 0.5  # to full, in one step
CELLS_MAX = 400_000  # servers times classes; beyond, one source after the other is as fast
GROWTH = 1e-3  # by which everything grows for a look at the bend
WORTH = 1e-4  # by which a route must be cheaper than those there are
SHORTEST = 1 / 64  # of a step, before it is given up


class _Slope(NamedTuple):
    objective: float
    by_sum: Floats  # [cells, 6]: of J by each of the six sums


class Together:
    """The routes that there are, as arrays. ``x``: shares, by route; the routes of a source stand together."""

    def __init__(self, search: Search) -> None:
        state, problem = search.state, search.problem
        self.search, self.edge = search, state.edge
        self.sources = [s for s, mix in enumerate(state.mixes) if mix]
        self.classes = max((problem.demands[s].klass for s in self.sources), default=1)
        servers: Dict[int, int] = {}
        begins: List[int] = []
        shares: List[float] = []
        fixed: List[float] = []
        cells: List[int] = []
        routes: List[int] = []
        sums: List[Tuple[float, ...]] = []
        for s in self.sources:
            spec, klass = problem.demands[s].spec, problem.demands[s].klass
            begins.append(len(shares))
            for column, share in state.mixes[s]:
                for server, used in column.uses:
                    cells.append(servers.setdefault(server, len(servers)) * self.classes + klass - 1)
                    routes.append(len(shares))
                    sums.append(scaled(used, spec.rate_hz, spec.gamma))
                shares.append(share)
                fixed.append(spec.gamma * spec.rate_hz * column.fixed_s)
        self.servers: Ints = np.array(list(servers), dtype=np.intp)
        self.count = len(servers)
        self.begins: Ints = np.array(begins, dtype=np.intp)
        self.x: Floats = np.array(shares)
        self.fixed: Floats = np.array(fixed)
        self.cell: Ints = np.array(cells, dtype=np.intp)
        self.route: Ints = np.array(routes, dtype=np.intp)
        self.sums: Floats = np.array(sums).reshape(-1, 6)
        sizes = np.diff(np.append(self.begins, len(shares)))
        self.owner: Ints = np.repeat(np.arange(len(self.sources)), sizes)

    def even_out(self) -> float:
        """Gain. The search's sources have their new shares."""
        if len(self.x) == len(self.sources) or self.count * self.classes > CELLS_MAX:
            return 0.0
        before = self.search.state.objective()
        x, _ = descend(self.x, STEPS_MAX, SHORTEST, self._slope, self._move)
        self.x = x
        self._put(x)
        return before - self.search.state.objective()

    def _move(self, x: Floats, here: _Slope) -> Move:
        return even_move(x, self._slopes(here), *self._bends(x, here), self.begins, self.owner)

    def _cells(self, x: Floats) -> Floats:
        flows = self.sums * x[self.route][:, None]
        cells = self.count * self.classes
        return np.stack([np.bincount(self.cell, flows[:, n], cells) for n in range(6)], axis=1)

    def _slope(self, x: Floats) -> _Slope:
        objective, by_sum = cost_and_slope(self._cells(x).reshape(self.count, self.classes, 6), self.edge)
        return _Slope(objective + float(self.fixed @ x), by_sum.reshape(-1, 6))

    def _slopes(self, here: _Slope) -> Floats:
        """Of J by each route's share."""
        return self.fixed + np.bincount(self.route, (self.sums * here.by_sum[self.cell]).sum(axis=1), len(self.x))

    def _bends(self, x: Floats, here: _Slope) -> Tuple[Floats, Floats]:
        """Of J by each route's share, and by how much the share may grow."""
        cells = self._cells(x)
        grown = cost_and_slope((cells * (1 + GROWTH)).reshape(self.count, self.classes, 6), self.edge)[1]
        load = cells[:, 5].reshape(self.count, self.classes).sum(axis=1)
        steeper = (self.sums * (grown.reshape(-1, 6) - here.by_sum)[self.cell]).sum(axis=1) / GROWTH
        own_load = self.sums[:, 5]
        there = self.cell // self.classes
        share = own_load / np.maximum(load[there], own_load)
        own = self.sums[:, 0] * self.sums[:, 3]
        bend = np.bincount(self.route, steeper * share + own, len(self.x))
        free = CLOSER * np.maximum(1.0 - load[there], self.edge) / own_load
        most = np.full(len(self.x), 1.0)
        np.minimum.at(most, self.route, free)
        return np.maximum(bend, 1e-300), most

    def offer(self) -> int:
        """Every source is offered the route whose next work costs least, at a share of nothing, where there is one that
        it has not yet, and memory for it. Returns how many there were."""
        search, state = self.search, self.search.state
        for s in self.sources:
            search.field(s)  # all links that it knows have a number before they are tabled
        here = self._slope(self.x)
        least = np.minimum.reduceat(self._slopes(here), self.begins)
        slopes = np.empty((len(search.problem.server_names), self.classes, 6))
        slopes[:] = (0.0, 1.0, 1.0, 0.0, 0.0, 0.0)  # where nobody is
        slopes[self.servers] = here.by_sum.reshape(self.count, self.classes, 6)
        offered = 0
        for s, dearest in zip(self.sources, least):
            demand = search.problem.demands[s]
            field = search.field(s)
            found = field.cheapest_by(slopes[:, demand.klass - 1], search.barred_for(s, field))
            if found is None or found.price * demand.spec.rate_hz > (1 - WORTH) * dearest:
                continue
            column = search.column(s, found.visits)
            mix = state.mixes[s]
            if column is None or any(known.visits == column.visits for known, _ in mix):
                continue
            if not search.tight or state.fits(s, (*mix, (column, 0.0))):
                state.offer(s, column)
                offered += 1
        return offered

    def _put(self, x: Floats) -> None:
        state = self.search.state
        at = 0
        for s, count in zip(self.sources, np.diff(np.append(self.begins, len(x)))):
            pairs = [(column, float(share)) for (column, _), share in zip(state.mixes[s], x[at : at + count])]
            at += int(count)
            mix: Mix = mixed(pairs, SHARE_MIN)
            if mix != state.mixes[s]:
                state.put(s, mix)


def cost_and_slope(six: Floats, edge: float) -> Tuple[float, Floats]:
    """``servers.cost`` of [servers, classes, 6], and its slope by each of them; ``edge`` above 0."""
    waits, cut, last, square, fine, load = (six[..., n] for n in range(6))
    sigma = np.cumsum(load, axis=1)
    residual = 0.5 * (np.cumsum(square, axis=1) + fine.sum(axis=1, keepdims=True) - np.cumsum(fine, axis=1))
    free, bend = _inverse(1.0 - sigma, edge)
    above, above_bend = np.ones_like(free), np.zeros_like(free)
    above[:, 1:], above_bend[:, 1:] = free[:, :-1], bend[:, :-1]
    slope = np.empty_like(six)
    slope[..., 0] = residual * above * free
    slope[..., 1] = above
    slope[..., 2] = 1.0
    half = 0.5 * waits * above * free
    slope[..., 3] = _from_here_on(half)
    slope[..., 4] = np.cumsum(half, axis=1) - half
    later = (waits * residual * free + cut) * above_bend
    slope[..., 5] = _from_here_on(waits * residual * above * bend) + _from_here_on(later) - later
    return float((waits * slope[..., 0] + cut * above + last).sum()), slope


def _from_here_on(values: Floats) -> Floats:
    """Sums over this class and the less urgent."""
    return np.cumsum(values[:, ::-1], axis=1)[:, ::-1]


def _inverse(free: Floats, edge: float) -> Tuple[Floats, Floats]:
    """``servers.inverse`` and its slope by the load, on arrays."""
    inside = np.maximum(free, edge)
    straight = (2 * edge - free) / (edge * edge)
    return np.where(free > edge, 1.0 / inside, straight), 1.0 / (inside * inside)


__all__ = ["Together", "cost_and_slope"]
