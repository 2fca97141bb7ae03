"""The cheapest routes of a crowd, as prices are now: one pass over the boundaries, from the heads and home again.

Prices of runs and transfers are worked out boundary by boundary as the pass needs them: so they stay in the processor's
cache, where the whole of them, some megabytes, took ten times as long. When a route is traced back they are worked out
again.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from pamdi.controller.solver.crowd import VISIT_S, Crowd, Paths
from pamdi.controller.solver.jobs import placed, price
from pamdi.controller.solver.reach import spans
from pamdi.controller.solver.variants import Floats, Ints


class Bars(NamedTuple):
    """What memory says: ``add`` [rows, places] to runs on ``pairs``, each at its ``place``."""

    pairs: Ints
    place: Ints
    add: Floats


class Prices:
    """What one work per second more adds to J. ``slopes`` [6, classes, servers]; ``klass`` [sources] from 0."""

    def __init__(self, crowd: Crowd, slopes: Floats, klass: Ints, bars: Optional[Bars] = None) -> None:
        self.crowd, self.bars = crowd, bars
        self.device: Floats = slopes[:, klass[crowd.owner], crowd.device]
        self.link: Floats = slopes[:, klass[crowd.link_owner], crowd.link_server]
        gamma, (wait, stretch, _, square, fine, load) = crowd.gamma[crowd.owner], self.device
        self._factors = np.stack((
            gamma * (wait + crowd.lost_s), gamma * stretch + load, gamma * (1 - stretch), square, fine, gamma * VISIT_S,
        ))  # fmt: skip

    def each(self) -> Floats:
        """Transfers [sizes, links and none]."""
        crowd, gamma = self.crowd, self.crowd.gamma[self.crowd.link_owner]
        costs = np.zeros((len(crowd.sizes), len(gamma) + 1))
        for size in range(len(crowd.sizes)):
            costs[size, :-1] = self._transfer(size, gamma)
        return costs

    def runs(self, rows: slice) -> Floats:
        """[rows, pairs]"""
        crowd = self.crowd
        costs = np.empty((rows.stop - rows.start, len(crowd.device)))
        for n, table in enumerate(crowd.tables):
            here = slice(int(crowd.slices[n]), int(crowd.slices[n + 1]))
            costs[:, here] = np.inf if table is None else self._run(n, rows, here)
        if self.bars is not None:
            costs[:, self.bars.pairs] += self.bars.add[rows][:, self.bars.place]
        return costs

    def _transfer(self, size: int, gamma: Floats) -> Floats:
        t, end, fine = self.crowd.moved
        return price((t[size], end[size], fine[size]), self.link, gamma)

    def _run(self, kind: int, rows: slice, here: slice) -> Floats:
        return np.asarray(self.crowd.features[kind][rows] @ self._factors[:, here])


class PricesPlaced(Prices):
    """The same per work, were ``part`` of each source's works placed at once. ``rooms`` [2, classes, servers]: what
    the classes down to this one, and all together, leave free."""

    def __init__(
        self, crowd: Crowd, slopes: Floats, klass: Ints, bars: Optional[Bars], rooms: Floats, part: float
    ) -> None:
        super().__init__(crowd, slopes, klass, bars)
        self.rate_hz: Floats = part * crowd.rate_hz
        self.device_room: Floats = rooms[:, klass[crowd.owner], crowd.device]
        self.link_room: Floats = rooms[:, klass[crowd.link_owner], crowd.link_server]

    def _transfer(self, size: int, gamma: Floats) -> Floats:
        t, end, fine = self.crowd.moved
        return placed(
            (t[size], end[size], fine[size]), self.link, self.link_room, gamma, self.rate_hz[self.crowd.link_owner]
        )

    def _run(self, kind: int, rows: slice, here: slice) -> Floats:
        crowd, table = self.crowd, self.crowd.tables[kind]
        assert table is not None
        owner = crowd.owner[here]
        t, end, fine = (column[rows][:, None] for column in table)
        costs = placed(
            (t, end, fine), self.device[:, here], self.device_room[:, here], crowd.gamma[owner], self.rate_hz[owner]
        )
        return costs + crowd.gamma[owner] * crowd.lost_s[here]


class Walk:
    """From every source's head through all boundaries."""

    def __init__(self, crowd: Crowd, prices: Prices) -> None:
        self.crowd, self.prices, self.each = crowd, prices, prices.each()
        self._moved: Dict[int, Floats] = {}  # by size
        units, pairs = crowd.units, len(crowd.device)
        until, begins = crowd.listed.until, crowd.listed.first
        self.done: Floats = np.full((units + 1, pairs), np.inf)  # a run has ended here
        self.ready: Floats = np.full((units, pairs), np.inf)  # the tensor has come, a run may begin
        self.done[0, crowd.head] = 0.0
        for b in range(units):
            arrivals = self.done[b][crowd.begin] + self._moves(b)
            self.ready[b, crowd.reached] = np.minimum.reduceat(arrivals, crowd.starts)
            if not b:
                self.ready[0, crowd.head] = 0.0
            rows = slice(until[b], until[b + 1])
            self.done[b + 1] = (self.ready[begins[rows]] + prices.runs(rows)).min(axis=0)

    def cheapest(self, each: int = 1, most: Optional[Floats] = None) -> Paths:
        """Of every source the cheapest route that ends at each device, and of those the cheapest ``each``, as far as
        they cost less than ``most`` [sources]."""
        crowd, units = self.crowd, self.crowd.units
        home = np.where(crowd.is_head, self.done[units], np.inf)
        away = crowd.back >= 0
        home[away] = self.done[units, away] + self._moves(units)[crowd.back[away]]
        costs = np.where(crowd.of >= 0, home[crowd.of], np.inf)
        order = np.argsort(costs, axis=1, kind="stable")[:, :each]
        owner = np.repeat(np.arange(len(crowd.sources)), order.shape[1])
        ends, cost = crowd.of[owner, order.ravel()], np.take_along_axis(costs, order, axis=1).ravel()
        some = np.isfinite(cost) if most is None else cost < most[owner]
        return self._trace(owner[some], ends[some])

    def _trace(self, owner: Ints, ends: Ints) -> Paths:
        """The routes that end at pairs ``ends``, from their last run to their first."""
        crowd = self.crowd
        until, begins = crowd.listed.until, crowd.listed.first
        at, boundary = ends.copy(), np.full(len(ends), crowd.units)
        found: List[Tuple[Ints, Ints, Ints]] = []
        home = np.flatnonzero(~crowd.is_head[ends])
        hops: List[Tuple[Ints, Ints, Ints]] = [(home, crowd.back[ends[home]], boundary[home])]
        for b in range(crowd.units, 0, -1):
            which = np.flatnonzero(boundary == b)
            if not len(which):
                continue
            pairs, rows = at[which], slice(until[b - 1], until[b])
            options = self.ready[begins[rows][:, None], pairs] + self.prices.runs(rows)[:, pairs]
            row = options.argmin(axis=0) + rows.start
            begin = begins[row]
            found.append((which, row, pairs))
            boundary[which] = begin
            coming = (begin > 0) | ~crowd.is_head[pairs]
            which, begin = which[coming], begin[coming]
            arcs = self._arc_into(pairs[coming], begin)
            hops.append((which, arcs, begin))
            at[which] = crowd.begin[arcs]
        run, row, pairs = (np.concatenate(parts) for parts in zip(*found)) if found else (at[:0],) * 3
        hop, arcs, edges = (np.concatenate(parts) for parts in zip(*hops))
        two = crowd.second[arcs] >= 0
        return Paths(
            crowd.sources[owner], run, row, crowd.device[pairs], np.concatenate((hop, hop[two])),
            np.concatenate((crowd.first[arcs], crowd.second[arcs[two]])), np.concatenate((edges, edges[two])),
        )  # fmt: skip

    def _arc_into(self, pairs: Ints, boundary: Ints) -> Ints:
        """The cheapest into each of ``pairs``, at its boundary."""
        crowd = self.crowd
        arcs, which = spans(crowd.arc_start[pairs], crowd.arc_start[pairs + 1])
        at = boundary[which]
        size = crowd.size_of[at]
        move = self.each[size, crowd.slot_first[arcs]] + self.each[size, crowd.slot_second[arcs]] + crowd.fixed[arcs]
        order = np.lexsort((self.done[at, crowd.begin[arcs]] + move, which))
        first = np.searchsorted(which[order], np.arange(len(pairs)))
        return np.asarray(arcs[order][first]) if len(pairs) else arcs

    def _moves(self, b: int) -> Floats:
        """By arc."""
        crowd, size = self.crowd, int(self.crowd.size_of[b])
        if size not in self._moved:
            each = self.each[size]
            self._moved[size] = each[crowd.slot_first] + each[crowd.slot_second] + crowd.fixed
        return self._moved[size]
