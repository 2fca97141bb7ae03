"""Plans of large fleets: all sources of a model look for routes in one pass, all sources even out at once.

Works are *placed* in parts, some of every source's before more of any, two dozen sources at a time with the prices that
those before them left. Then *rounds* are gone: everybody is offered the few routes that cost least at prices as they
are or will be (``crowd``, ``outlook``), as far as memory allows, and all even out their shares (``evening``); every
other round everybody looks around again, since who is near and free changes.

Where cuts cost nothing (no ``overhead_s``, no merged times) works are first cut into single units: those are soonest
looked through, and sources share what is held of them. Other cuts come when that has settled.
"""

import math
import random
from typing import Callable, Collection, Dict, List, Optional, Sequence, Set, Tuple, TypeVar

import numpy as np

from pamdi.controller.solver.around import Chosen, choose
from pamdi.controller.solver.crowd import Crowd
from pamdi.controller.solver.grid import Grid
from pamdi.controller.solver.outlook import Outlook
from pamdi.controller.solver.pool import Pool
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.reach import Reach
from pamdi.controller.solver.search import Allowed
from pamdi.controller.solver.state import Mix
from pamdi.controller.solver.variants import Floats, Ints, Variants, variants
from pamdi.controller.solver.walk import Prices, PricesPlaced, Walk

EDGE_FIRST, EDGE_LAST = 0.02, 1e-4
PARTS = (0.4, 0.3, 0.3)  # of each source's works, placed one after the other
PLACED_TOGETHER, OFFERED_TOGETHER = 26, 50  # sources at most
FAR = 4  # times as many devices for a source that found no memory
RENT = 0.1  # see ``Memory.bars``
OFFERS_SHORT, OFFERS_FULL = 3, 6  # routes a round, while a server is full: where memory is short, where it is not
OFFERS = (8, 8, 8, 5)  # and later, by round; the last holds on
WAY_FULL = 0.8  # see ``Outlook``: while a server is full
WAYS = (1.0, 0.8, 0.9, 0.7, 0.8, 0.6, 0.7, 0.5, 0.6, 0.4, 0.5, 0.3, 0.4, 0.2, 0.3, 0.1, 0.2, 0.0)  # and later, by round
STEPS_FIRST, STEPS = 6, 8  # of evening out
LOOK_EVERY = 2  # rounds
STUCK_FEW = 0.5  # of the sources: while so few meet a full server, only they look for other ways
SINGLE_ROUNDS = 0.75  # of all: then other cuts are looked at
ROUNDS_SETTLED = 3e-4  # of J: rounds between two looks around that gain less are the last

Number = TypeVar("Number", int, float)


class Rounds:
    """``sizes``: devices around a source, when they are first placed, and at each look around after that; the last
    holds on. ``order``: seed of another order to place them in. ``held``: only over these, which stay."""

    def __init__(
        self, problem: Problem, grid: Grid, sizes: Sequence[int], order: int = 0, held: Optional[Allowed] = None
    ) -> None:
        self.problem, self.reach, self.sizes = problem, Reach(grid), list(sizes)
        self.pool = Pool(problem, EDGE_FIRST)
        self._order = list(range(len(problem.demands)))
        if order:
            random.Random(order).shuffle(self._order)
        self._listed: Dict[Tuple[int, bool], Variants] = {}
        self._devices: Dict[int, Dict[int, None]] = {}  # by way
        self._outlook = Outlook(problem)
        self._gone_rounds = 0  # with no server full
        fleet = problem.fleet
        self._single = not any(d.overhead_s for d in fleet.device) and not any(m.merged for m in fleet.model)
        self._always_single = held is not None
        if held is not None:
            self._single = True
            self.pool.memory.keep_to(held)

    def place(self, before: Collection[int] = ()) -> bool:
        """Whether all sources have a way, and memory for it. ``before``: those that are given memory before all
        others."""
        for crowd in self._crowds(1, some=before):
            self._place(crowd, PARTS[0])
        crowds = self._crowds(PLACED_TOGETHER)
        for part in PARTS:
            for crowd in crowds:
                self._place(crowd, part)
            self._place_missed()
        return self.begin()

    def _place(self, crowd: Crowd, part: float) -> None:
        pool, klass = self.pool, self.pool.klass[crowd.sources]
        prices = PricesPlaced(crowd, pool.slopes, klass, pool.memory.bars(crowd, RENT), pool.rooms(), part)
        pool.offer(crowd, Walk(crowd, prices).cheapest(), part)

    def _place_missed(self) -> None:
        """Those that found no memory look further, while there is some."""
        size = self.sizes[0]
        self.sizes[0] = FAR * size
        for crowd in self._crowds(1, some=self.missed()):
            self._place(crowd, PARTS[0])
        self.sizes[0] = size

    def missed(self) -> Set[int]:
        """The sources that have no way."""
        return set(self._order) - set(self.pool.routes.owner.tolist())

    def begin(self) -> bool:
        """From what is in the pool."""
        missed = self.missed()
        if not missed:
            self.pool.prune()
            self.pool.even_out(STEPS_FIRST)
        return not missed

    def seed(self, mixes: Sequence[Mix]) -> bool:
        self.pool.seed(mixes)
        return self.begin()

    def go(self, rounds: int, late: Callable[[], bool], note: Callable[[], None]) -> None:
        since, looked = math.inf, LOOK_EVERY
        crowds: List[Crowd] = []
        for n in range(rounds):
            if late():
                return
            stuck = self.pool.stuck()
            if 0 < len(stuck) < STUCK_FEW * len(self._order):
                crowds, looked = self._crowds(OFFERED_TOGETHER, stuck), LOOK_EVERY
            elif looked >= LOOK_EVERY:
                now = math.inf if stuck else self.pool.objective
                settled = since - now <= ROUNDS_SETTLED * abs(now) if now < math.inf else False
                if settled and (self._always_single or not self._single):
                    return
                if settled or n >= SINGLE_ROUNDS * rounds:
                    self._single = self._always_single
                if len(self.sizes) > 1 and now < math.inf:
                    self.sizes.pop(0)
                since, looked, crowds = now, 0, self._crowds(OFFERED_TOGETHER)
            looked += 1
            self._round(crowds)
            note()

    def mixes(self) -> List[Mix]:
        return self.pool.mixes()

    def _round(self, crowds: Sequence[Crowd]) -> None:
        """Offered are only routes cheaper than what a source's works cost as they go."""
        pool, slopes = self.pool, self._slopes()
        pool.edge = EDGE_FIRST if pool.full() else EDGE_LAST
        full, offers, means = pool.full(), at(OFFERS, self._gone_rounds), pool.means(slopes)
        for crowd in crowds:
            bars = pool.memory.bars(crowd, RENT)
            prices = Prices(crowd, slopes, pool.klass[crowd.sources], bars)
            most = None if means is None else means[crowd.sources]
            paths = Walk(crowd, prices).cheapest((OFFERS_SHORT if bars else OFFERS_FULL) if full else offers, most)
            pool.offer(crowd, paths, 0.0)
        pool.even_out(STEPS)
        pool.prune()
        self._gone_rounds += not pool.full()

    def _slopes(self) -> Floats:
        way = WAY_FULL if self.pool.full() else at(WAYS, self._gone_rounds)
        return self._outlook.slopes(self.pool.slopes, way)

    # -- crowds ----------------------------------------------------------------------------------------------------

    def _crowds(self, most: int, some: Optional[Collection[int]] = None) -> List[Crowd]:
        """Sources of one model each, at most ``most``, the more urgent and the less mixed."""
        by_model: Dict[int, List[int]] = {}
        for s in self._order if some is None else sorted(some):
            by_model.setdefault(self.problem.demands[s].model, []).append(s)
        gone, slopes = self._gone(), self._slopes()
        found: List[Crowd] = []
        for _, sources in sorted(by_model.items()):
            parts = -(-len(sources) // most)
            found.extend(self._crowd(sources[n::parts], gone, slopes) for n in range(parts))
        return found

    def _crowd(self, sources: Sequence[int], gone: Sequence[Sequence[int]], slopes: Floats) -> Crowd:
        owner = np.repeat(np.arange(len(sources)), [len(gone[s]) for s in sources])
        device: Ints = np.array([d for s in sources for d in gone[s]], dtype=np.intp)
        klass = self.pool.klass[list(sources)]
        chosen = choose(self.problem, self.reach, sources, self.sizes[0], slopes, klass, Chosen(owner, device))
        return Crowd(self.problem, self.reach, sources, self._variants(sources[0]), chosen)

    def _gone(self) -> List[List[int]]:
        """By source the devices that its routes go to."""
        found: List[Dict[int, None]] = [{} for _ in self._order]
        for s, way, visits in zip(self.pool.routes.owner.tolist(), self.pool.ways, self.pool.visits):
            if way not in self._devices:
                self._devices[way] = dict.fromkeys(device for _, _, device in visits)
            found[s].update(self._devices[way])
        return [list(devices) for devices in found]

    def _variants(self, s: int) -> Variants:
        model, single = self.problem.demands[s].model, self._single
        if (model, single) not in self._listed:
            self._listed[model, single] = variants(len(self.problem.models[model].memory), single=single)
        return self._listed[model, single]


def at(values: Sequence[Number], n: int) -> Number:
    """The last holds on."""
    return values[min(n, len(values) - 1)]
