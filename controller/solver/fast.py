"""``fast``: a very good fractional plan in seconds, for fleets of any size.

1. *Place*: sources in order of class, each by the cheapest route through what those before it have left over.
2. *Settle*: every source in turn leaves and comes back (``whole``), until nobody would.
3. *Split*: flows are shared out between routes (``share``), in turn with a search of wider surroundings.
4. *Stir*: sources that meet at a server are placed anew together, in an order drawn from a seeded stream.

Where there are many sources, 2 to 4 would take minutes, and turn by turn they settle slowly. There works are placed in
parts, some of every source's before more of any, and then *rounds* are gone: everybody is offered a few routes more,
and all even out their shares at once (``rounds``; where links are few, or a mesh, ``together``); now and then everybody
looks around again, since who is near and free changes.

Where memory is short it has a price per byte too many, which rises until nothing is too much; that is begun again from
several first prices, and the best outcome is kept. How long each phase goes on is a matter of counts, never of the
clock: the same input gives the same plan. ``seconds`` is a far limit only.
"""

import math
import random
import time
from functools import partial
from typing import Callable, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from pamdi.controller.residents import choose
from pamdi.controller.solver.exact import exact, routes_of
from pamdi.controller.solver.grid import Grid, grid_of
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.rounds import Rounds
from pamdi.controller.solver.search import Allowed, Search
from pamdi.controller.solver.state import Mix
from pamdi.controller.solver.together import Together

SECONDS = 600.0
EDGE_FIRST, EDGE_LAST = 0.02, 1e-4
SIZES = (24, 32)  # devices around a source: first look, second
SIZES_MANY = (24, 32, 40, 48, 56, 64)  # the same where sources are many
SETTLED = 1e-4  # a sweep that gains less than this share is the last of its phase
SETTLED_ROUGHLY = 3e-2  # the same before the last look around
EAGER_SWEEPS, EAGER_SOURCES_MIN = 3, 20
PARTS = (0.5, 0.3, 0.2)  # of each source's works, placed one after the other where sources are many
LOOKS = (1, 3, 6)  # before which rounds everybody looks around again, and then
LOOK_EVERY = 4
ROUNDS_SETTLED = 3e-4  # of J: rounds between two looks around that gain less are the last
SWEEPS_MAX = 30
PRICES = (0.05, 1.0, 20.0)  # first price of a byte, by what the average byte of a plan costs
PRICE_RISES = 40
RENTS = (0.0, 0.03, 0.2, 1.0)  # of a byte while sources are placed anew, by the same
TIGHT_STIRS = 3
PLACED_ANEW = 4  # times, where sources are many: those that found no memory come first then
SOURCES_FEW = 60
ORDERS_FEW = 4  # in which so few are placed; the best outcome is kept
STARTS_MAX = 12
STIRRED_MAX = 2  # of the starts, the best
PACKED_MAX = 60  # devices
SHORT_ROUTES, SHORT_PAIRS, SHORT_NODES = 3000, 8_000_000, 3000  # of a branch and bound cut short


class Effort(NamedTuple):
    """``starts``: for tight memory; ``stirs``: groups placed anew per source; ``group``: sources in one at most;
    ``rounds``: in place of all that, where sources are many; ``order``: seed of another order to place them in."""

    starts: int
    stirs: int
    group: int
    sizes: Tuple[int, ...] = SIZES
    sweeps: int = SWEEPS_MAX
    rounds: int = 0
    order: int = 0


def effort_for(sources: int, gridded: bool = False) -> Effort:
    """``gridded``: links are known one by one, and rounds go by arrays."""
    if sources <= 12:
        return Effort(STARTS_MAX, 10, 3)
    if sources <= SOURCES_FEW and not gridded:
        return Effort(4, 10, 4)
    if sources <= 500:
        return Effort(2, 0, 4, SIZES_MANY, rounds=60)
    return Effort(1, 0, 4, (20, 24), 4, rounds=8)


class Progress(NamedTuple):
    """J when ``seconds`` had gone by; infinite while a server is full or memory is short."""

    seconds: float
    objective: float
    phase: str


class Fast:
    """One run. ``trace`` keeps what was reached when; it decides nothing."""

    def __init__(
        self, problem: Problem, effort: Optional[Effort] = None, seconds: float = SECONDS,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self.problem = problem
        self._clock, self._began, self._until = clock, clock(), seconds
        self.trace: List[Progress] = []
        self._proven = False  # whether the best integral plan is among the starts
        self.grid = grid_of(problem)
        self.effort = effort if effort is not None else effort_for(len(problem.demands), self.grid is not None)
        self.order = list(range(len(problem.demands)))
        if self.effort.order:
            random.Random(self.effort.order).shuffle(self.order)

    def run(self, starts: Sequence[Sequence[Mix]] = ()) -> Optional[List[Mix]]:
        """The best mixes found, by source; None when no plan was found that memory allows. ``starts``: plans to begin
        from, beside our own."""
        if self.effort.rounds and self.grid is not None:
            mixes = self._large(self.grid, starts)
            if mixes is not None or len(self.order) > SOURCES_FEW:
                return mixes
        found = self._searches(starts)
        for search in found:
            self._improve(search)
        found.sort(key=self._value)
        for search in found[: 0 if self.effort.rounds else STIRRED_MAX]:
            self._stir(search)
            self._sweep(search, search.share_or_move, "split", SETTLED)
        return list(min(found, key=self._value).state.mixes) if found else None

    def over(self, held: Allowed, start: Sequence[Mix]) -> List[Mix]:
        """Routes of single units over what is held, better than those of ``start`` where there are better ones. For
        efforts with ``rounds``."""
        if self.grid is not None:
            rounds = Rounds(self.problem, self.grid, self.effort.sizes, held=held)
            if not rounds.seed(start):
                return list(start)
            rounds.go(self.effort.rounds, self.late, partial(self._note_rounds, rounds, "rounds"))
            return rounds.mixes()
        search = Search(self.problem, EDGE_FIRST, self.effort.sizes[0], held, memory=False)
        for s, mix in enumerate(start):
            search.state.put(s, mix)
        self._rounds(search)
        return list(search.state.mixes)

    def _large(self, grid: Grid, starts: Sequence[Sequence[Mix]]) -> Optional[List[Mix]]:
        """The same where sources are many and links are known one by one: all of them at once, by arrays."""
        orders = ORDERS_FEW if len(self.order) <= SOURCES_FEW else 1
        own = [self._rounds_from(grid, self.effort.order + n) for n in range(orders)]
        found = [rounds for rounds in own if rounds is not None]
        for mixes in starts:
            seeded = Rounds(self.problem, grid, self.effort.sizes)
            if seeded.seed(mixes):
                found.append(seeded)
        for rounds in found:
            self._note_rounds(rounds, "place")
            rounds.go(self.effort.rounds, self.late, partial(self._note_rounds, rounds, "rounds"))
        best = min(found, key=lambda rounds: (rounds.pool.full(), rounds.pool.objective), default=None)
        return best.mixes() if best is not None else None

    def _rounds_from(self, grid: Grid, order: int) -> Optional[Rounds]:
        missed: Set[int] = set()
        for _ in range(PLACED_ANEW):
            rounds = Rounds(self.problem, grid, self.effort.sizes, order)
            if rounds.place(missed):
                return rounds
            if rounds.missed() <= missed:
                break
            missed |= rounds.missed()
        for start in range(self.effort.starts):
            search = self._search()
            if self._place_dearly(search, start):
                rounds = Rounds(self.problem, grid, self.effort.sizes)
                if rounds.seed(search.state.mixes):
                    return rounds
        return None

    def _note_rounds(self, rounds: Rounds, phase: str) -> None:
        before = min((step.objective for step in self.trace[-1:]), default=math.inf)
        objective = before if rounds.pool.full() else min(before, rounds.pool.objective)
        self.trace.append(Progress(self._clock() - self._began, objective, phase))

    def late(self) -> bool:
        return self._clock() - self._began > self._until

    # -- starts ----------------------------------------------------------------------------------------------------

    def _searches(self, starts: Sequence[Sequence[Mix]]) -> List[Search]:
        found: List[Search] = []
        for mixes in starts:
            search = self._search()
            for s, mix in enumerate(mixes):
                search.state.put(s, mix)
            found.append(search)
        self._proven, enumerated = self._enumerated()
        found.extend(enumerated)
        found.extend(self._packed())
        plain = self._search()
        loose = bool(self.effort.rounds) and self._place_parts(plain)
        if not loose:  # parts take more memory than whole routes
            plain = self._search() if self.effort.rounds else plain
            loose = self._place(plain)
        if loose:
            found.append(plain)
        if not loose or self._short(plain):
            for start in range(1 if self._proven else self.effort.starts):
                search = self._search()
                if self._place_dearly(search, start):
                    found.append(search)
        return found

    def _packed(self) -> List[Search]:
        """What the rounds of ``residents`` put into memory, one unit apiece, as a start: it packs best."""
        problem = self.problem
        if len(problem.ids) > PACKED_MAX:
            return []
        stock = choose(problem.fleet, {})
        if stock.refused:
            return []
        models = {model.id: m for m, model in enumerate(problem.models)}
        holds = {problem.number[id]: {(models[m], u) for m, u in units} for id, units in stock.holds.items()}
        inner = Search(problem, EDGE_FIRST, self.effort.sizes[0], holds, memory=False)
        if [s for s in self.order if not inner.insert(s)]:
            return []
        search = self._search()
        for s, mix in enumerate(inner.state.mixes):
            search.state.put(s, mix)
        return [search]

    def _enumerated(self) -> Tuple[bool, List[Search]]:
        """Where the fleet is small enough to list every route: the best plan that a short branch and bound finds."""
        problem = self.problem
        counts = [routes_of(problem, s) for s in self.order]
        pairs = sum(a * b for n, a in enumerate(counts) for b in counts[n + 1 :])
        few = max(counts, default=0) <= SHORT_ROUTES and pairs <= SHORT_PAIRS
        best = exact(problem, SHORT_NODES, stop_at_limit=True) if few else None
        if best is None or not best.columns:
            return False, []
        search = self._search()
        for s, column in enumerate(best.columns):
            search.state.put(s, ((column, 1.0),))
        return best.proven, [search]

    def _search(self) -> Search:
        return Search(self.problem, EDGE_FIRST, self.effort.sizes[0], grid=self.grid)

    def _place(self, search: Search) -> bool:
        missed = [s for s in self.order if not search.insert(s)]
        self._note(search, "place")
        return not missed

    def _place_parts(self, search: Search) -> bool:
        for part in PARTS:
            for s in self.order:
                search.insert_part(s, part)
        for s in self.order:
            total = sum(share for _, share in search.state.mixes[s])
            if not math.isclose(total, 1.0) and total:
                search.state.put(s, tuple((column, share / total) for column, share in search.state.mixes[s]))
        self._note(search, "place")
        return all(search.state.mixes)

    def _short(self, search: Search) -> bool:
        """Whether memory had a say: some device could not take one more of the largest models."""
        state, problem = search.state, self.problem
        used = {problem.demands[s].model for s in self.order}
        largest = max((sum(problem.models[m].memory) for m in used), default=0)
        touched = {d for s in self.order for d in search.field(s).devices} if len(self.order) <= 60 else set()
        return any(problem.memory[d] - state.used[d] < largest for d in touched)

    def _place_dearly(self, search: Search, start: int) -> bool:
        """Place with a price per byte too many, raised until nothing is. The first start keeps the order of class."""
        rng = random.Random(start)
        order = list(self.order)
        if start:
            rng.shuffle(order)
        search.byte_price = 0.0
        for s in order:
            search.insert(s)
        nbytes = max(1, sum(search.state.used))
        search.byte_price = PRICES[start % len(PRICES)] * abs(search.state.objective()) / nbytes
        for _ in range(PRICE_RISES):
            for s in order:
                search.whole(s)
            if not search.state.excess():
                break
            search.byte_price *= 1.6
            if len(order) <= 60:
                search.anew(rng.sample(order, min(len(order), 2)))
        search.byte_price = math.inf
        return not search.state.excess() and all(search.state.mixes[s] for s in order)

    # -- improvement -----------------------------------------------------------------------------------------------

    def _improve(self, search: Search) -> None:
        if self.effort.rounds:
            self._rounds(search)
            return
        self._sweep(search, search.whole, "settle", SETTLED_ROUGHLY)
        if not self._proven and self._short(search):  # before shared routes fill what memory there is
            self._stir(search)
        last = len(self.effort.sizes) - 1
        for n, size in enumerate(self.effort.sizes):
            if n and self._grows(search, size):
                self._sweep(search, search.whole, "settle", SETTLED_ROUGHLY)
            search.state.reset_edge(EDGE_LAST if not search.state.full() else EDGE_FIRST)
            self._sweep(search, search.share, "split", SETTLED if n == last else SETTLED_ROUGHLY)
        search.state.reset_edge(EDGE_LAST if not search.state.full() else EDGE_FIRST)

    def _rounds(self, search: Search) -> None:
        """Offer and even out; look around again every ``LOOK_EVERY`` rounds, until that gains little."""
        sizes, since = list(self.effort.sizes[1:]), math.inf
        for n in range(self.effort.rounds):
            if self.late():
                return
            if n in LOOKS or (n > LOOKS[-1] and (n - LOOKS[-1]) % LOOK_EVERY == 0):
                now = search.state.objective()
                if since - now <= ROUNDS_SETTLED * abs(now):
                    return
                since = now
                if len(self.problem.ids) > search.size:
                    search.look_around(sizes.pop(0) if sizes else search.size)
            search.state.reset_edge(EDGE_LAST if not search.state.full() else EDGE_FIRST)
            Together(search).offer()
            Together(search).even_out()
            self._note(search, "rounds")

    def _grows(self, search: Search, size: int) -> bool:
        """Look around again, wider; False when everybody sees everything already."""
        if len(self.problem.ids) <= search.size:
            return False
        search.look_around(size)
        return True

    def _sweep(self, search: Search, move: Callable[[int], float], phase: str, settled: float) -> None:
        """Everybody in turn; then again those that gained most, who mostly gain again, among the routes they have."""
        for _ in range(self.effort.sweeps):
            gains = {s: move(s) for s in self.order if not self.late()}
            total = sum(gains.values())
            for _ in range(EAGER_SWEEPS if len(gains) > EAGER_SOURCES_MIN else 0):
                middling = sum(gains.values()) / len(gains)
                again = search.rebalance if phase == "split" else move
                gains = {s: again(s) for s, gain in gains.items() if gain > middling and not self.late()}
                total += sum(gains.values())
                if not gains:
                    break
            self._note(search, phase)
            if total <= settled * abs(search.state.objective()) or self.late():
                return

    def _stir(self, search: Search) -> None:
        rng = random.Random(0)
        count = len(self.order)
        if count < 2:
            return
        short, noise = self._short(search), np.random.default_rng(0)
        byte = abs(search.state.objective()) / max(1, sum(search.state.used))
        for _ in range(self.effort.stirs * count * (TIGHT_STIRS if short and not self._proven else 1)):
            if self.late():
                return
            group = self._group(search, rng)
            rng.shuffle(group)
            rent, shake = (rng.choice(RENTS) * byte, noise) if short and rng.random() < 0.7 else (0.0, None)
            if search.anew(group, rent, shake) > 0:
                for s in group:
                    search.share(s)
        self._note(search, "stir")

    def _group(self, search: Search, rng: random.Random) -> List[int]:
        """A source, and some of those that it meets."""
        s = rng.choice(self.order)
        state = search.state
        servers = [server for column, _ in state.mixes[s] for server, _ in column.uses]
        met = sorted({other for server in servers for other in state.flows.get(server, ()) if other != s})
        more = met if len(met) >= 1 else [other for other in self.order if other != s]
        return [s, *rng.sample(more, min(len(more), rng.randint(1, self.effort.group - 1)))]

    # -- what came of it -------------------------------------------------------------------------------------------

    def _value(self, search: Search) -> float:
        """J, or more than any J where a server is full."""
        return search.state.objective() * (1e6 if search.state.full() else 1.0)

    def _note(self, search: Search, phase: str) -> None:
        state = search.state
        whole = all(state.mixes) and not state.full() and not (search.tight and state.excess())
        objective = state.objective() if whole else math.inf
        self.trace.append(Progress(self._clock() - self._began, objective, phase))
