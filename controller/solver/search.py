"""Local search over whole routes: what one source, or a few at once, would rather do, the others staying as they are.

Three moves, each judged by the true objective:

*whole*: the source leaves, sees what the others left over, and takes the cheapest route with all its works;
*share*: some of its works go from the route whose next work costs most to the one whose next work costs least;
*anew*: a few sources that meet at a server leave together and come back one by one.

Memory is hard, or has a price per byte too many (``byte_price``), which ``fast`` raises until nothing is too much.
"""

import math
from typing import Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from pamdi.controller.solver.around import around, near
from pamdi.controller.solver.field import Field
from pamdi.controller.solver.grid import Grid, grid_of, ways_by_path
from pamdi.controller.solver.problem import Column, Problem
from pamdi.controller.solver.servers import IDLE, Price
from pamdi.controller.solver.state import Change, Mix, State, mixed
from pamdi.controller.solver.variants import Floats, Variants, variants

HOPS_ALL_DEVICES = 32  # in fleets up to this size any path may be an arc
HOPS_MAX, HOPS_SPARSE_MAX = 2, 8  # where links are few, devices may be far
SHARE_MIN = 1e-4  # a smaller fraction is not worth a route
GAIN_MIN = 1e-9  # of what a source costs: less is rounding
SQUEEZES = (1.0, 0.6, 0.4)  # of the memory left, for each run, when all of a route's runs were too many
SHAKE = 3.0  # of a run's seconds at most
STEPS = 4  # of a line search
PAIRS_PER_VISIT = 3  # times that a source evens out its routes when its turn comes
Allowed = Dict[int, Set[Tuple[int, int]]]  # device: (model, unit) it may run


class Search:
    """``allowed``: only these, in single units, as the live controller holds them; ``memory``: whether it counts (where
    ``allowed`` is what is held already it does not)."""

    def __init__(
        self, problem: Problem, edge: float, size: int, allowed: Optional[Allowed] = None,
        grid: Optional[Grid] = None, memory: bool = True,
    ) -> None:  # fmt: skip
        self.problem, self.state, self.size, self.allowed = problem, State(problem, edge), size, allowed
        self.tight = memory
        self.rent = 0.0
        self.shake: Optional[np.random.Generator] = None
        self.byte_price = math.inf
        self.listed: Dict[int, Variants] = {}
        self.fields: Dict[int, Field] = {}
        self.known: List[Dict[Tuple[Tuple[int, int, int], ...], Optional[Column]]] = [{} for _ in problem.demands]
        self.grid = grid_of(problem) if grid is None else grid
        self._loads: Optional[Floats] = None
        self._memory = np.array(problem.memory)
        self._whole_bytes = [sum(model.memory) for model in problem.models]

    # -- moves -----------------------------------------------------------------------------------------------------

    def whole(self, s: int) -> float:
        """Gain of letting ``s`` take its cheapest route; 0 when it stays."""
        column = self.propose(s, whole=True)
        if column is None:
            return 0.0
        return self.accept(self.state.weigh(s, ((column, 1.0),)))

    def share(self, s: int) -> float:
        """Gain of moving some works of ``s`` from its dearest route to its cheapest."""
        column = self.propose(s, whole=False)
        mix = self.state.mixes[s]
        if column is None or not mix:
            return 0.0
        total = 0.0
        for _ in range(PAIRS_PER_VISIT):
            gain = self._even_out(s, column)
            total += gain
            if not gain:
                break
        return total

    def rebalance(self, s: int) -> float:
        """``share`` among the routes that there are: no new one is looked for."""
        mix = self.state.mixes[s]
        return self._even_out(s, mix[0][0]) if len(mix) > 1 else 0.0

    def _even_out(self, s: int, column: Column) -> float:
        """From the route of ``s`` whose next work costs most to that whose next work costs least."""
        mix = self.state.mixes[s]
        options = list(mix) if any(c.visits == column.visits for c, _ in mix) else [*mix, (column, 0.0)]
        slopes = [self.slope(s, c) for c, _ in options]
        used = [n for n, (_, share) in enumerate(options) if share > 0]
        worst, best = max(used, key=lambda n: slopes[n]), min(range(len(options)), key=lambda n: slopes[n])
        gap = slopes[worst] - slopes[best]
        if gap <= 1e-6 * abs(slopes[best]):
            return 0.0
        return self.accept(self._line(s, options, worst, best, gap * self.problem.demands[s].spec.rate_hz))

    def share_or_move(self, s: int) -> float:
        return self.share(s) + self.whole(s)

    def anew(self, group: Sequence[int], rent: float = 0.0, shake: Optional[np.random.Generator] = None) -> float:
        """Gain of placing the sources of ``group`` again, in that order; undone when there is none.

        Where memory is short: ``rent`` is a price per byte for whatever is not held yet, so that the first leave room
        for the last, and share; ``shake`` draws what runs cost more than they do, so that the first may begin
        elsewhere."""
        before = [(s, self.state.mixes[s]) for s in group]
        score = self.score()
        for s in group:
            self.state.put(s, ())
        self.rent, self.shake = rent, shake
        placed = all(self.insert(s) for s in group)
        self.rent, self.shake = 0.0, None
        if placed:
            for s in group:
                self.whole(s)
        gain = score - self.score() if all(self.state.mixes[s] for s in group) else -math.inf
        if gain > GAIN_MIN * abs(score):
            return gain
        for s in group:
            self.state.put(s, ())
        for s, mix in before:
            self.state.put(s, mix)
        return 0.0

    def insert(self, s: int) -> bool:
        """``s``, which has no route, takes the cheapest that fits."""
        column = self.propose(s, whole=True)
        if column is None:
            return False
        mix: Mix = ((column, 1.0),)
        if self.tight and math.isinf(self.byte_price) and not self.state.fits(s, mix):
            return False
        self.state.put(s, mix)
        return True

    def insert_part(self, s: int, part: float) -> bool:
        """``part`` of the works of ``s`` take the route that is cheapest for so many, beside those it has."""
        field, rate_hz = self.field(s), self.problem.demands[s].spec.rate_hz
        found = field.cheapest(
            self._prices(s, field, False), part * rate_hz, self.state.edge, self.barred_for(s, field)
        )
        column = self.column(s, found.visits) if found is not None else None
        if column is None:
            return False
        mix = self.state.mixes[s]
        shares = {known.visits: share for known, share in mix}
        shares[column.visits] = shares.get(column.visits, 0.0) + part
        columns = {known.visits: known for known, _ in mix}
        columns[column.visits] = column
        after = tuple((columns[visits], share) for visits, share in shares.items())
        if self.tight and not self.state.fits(s, after):
            return False
        self.state.put(s, after)
        return True

    def accept(self, change: Change) -> float:
        gain = change.gain
        if self.tight:
            excess = self.state.excess_change(change.source, change.mix)
            if excess > 0 and math.isinf(self.byte_price):
                return 0.0
            gain -= self.byte_price * excess if excess else 0.0
        if gain <= GAIN_MIN * self._scale(change.source):
            return 0.0
        self.state.take(change)
        return gain

    def score(self) -> float:
        excess = sum(self.state.excess().values()) if self.tight else 0
        return self.state.objective() + (self.byte_price * excess if excess else 0.0)

    # -- proposals -------------------------------------------------------------------------------------------------

    def propose(self, s: int, whole: bool) -> Optional[Column]:
        """The cheapest route by the arcs of the layered graph."""
        field = self.field(s)
        rate_hz = self.problem.demands[s].spec.rate_hz if whole else 0.0
        prices, column = self._prices(s, field, whole), None
        for squeeze in SQUEEZES:
            barred = self._barred(s, field, squeeze)
            if self.shake is not None:
                noise = self.shake.random(field.total_s.shape) * field.total_s * (SHAKE * field.gamma)
                barred = noise if barred is None else barred + noise
            found = field.cheapest(prices, rate_hz, self.state.edge, barred)
            column = self.column(s, found.visits) if found is not None else None
            if column is None or not self.tight or math.isfinite(self.byte_price):
                break
            if self.state.fits(s, ((column, 1.0),)):  # its own runs on one device may be too many together
                break
        return column

    def column(self, s: int, visits: Tuple[Tuple[int, int, int], ...]) -> Optional[Column]:
        known = self.known[s]
        if visits not in known:
            known[visits] = self.problem.column(s, visits)
        return known[visits]

    def slope(self, s: int, column: Column) -> float:
        """What one work per second more on ``column`` adds to J."""
        demand, state = self.problem.demands[s], self.state
        gamma, total = demand.spec.gamma, demand.spec.gamma * column.fixed_s
        for server, sums in column.uses:
            p = state.price_at(server, demand.klass) or IDLE
            total += gamma * (sums[0] * p.wait_s + sums[1] * p.stretch + sums[2])
            total += p.square * sums[3] + p.fine * sums[4] + p.load * sums[5]
        return total

    def field(self, s: int) -> Field:
        if s not in self.fields:
            self.fields[s] = self._field(s, self.size)
        return self.fields[s]

    def look_around(self, size: int) -> None:
        """All sources choose their surroundings again, with the loads as they are now."""
        self.size, self._loads = size, None
        self.fields = {s: self._field(s, size) for s in range(len(self.problem.demands))}

    def listed_for(self, model: int) -> Variants:
        if model not in self.listed:
            self.listed[model] = variants(len(self.problem.models[model].memory), single=self.allowed is not None)
        return self.listed[model]

    # -- inside ----------------------------------------------------------------------------------------------------

    def _field(self, s: int, size: int) -> Field:
        problem, mix = self.problem, self.state.mixes[s]
        always = {device for column, _ in mix for _, _, device in column.visits}
        listed = self.listed_for(problem.demands[s].model)
        if self.grid is not None:
            devices = near(problem, self.grid, s, size, self.loads(), always)
            return Field(problem, s, devices, listed, self.grid.ways(np.array(devices, dtype=np.intp)))
        devices = around(problem, s, size, self.state.load, always)
        sparse = HOPS_MAX if problem.fleet.mesh else HOPS_SPARSE_MAX
        hops = len(problem.ids) if len(problem.ids) <= HOPS_ALL_DEVICES else sparse
        return Field(problem, s, devices, listed, ways_by_path(problem, devices, hops))

    def loads(self) -> Floats:
        """Of every device, as they were when the search last looked around."""
        if self._loads is None:
            self._loads = np.array([self.state.load(d) for d in range(len(self.problem.ids))])
        return self._loads

    def _prices(self, s: int, field: Field, whole: bool) -> Dict[int, Price]:
        state, klass = self.state, self.problem.demands[s].klass
        without = s if whole else -1
        found: Dict[int, Price] = {}
        own = state.own(s) if whole else {}
        for server in field.busy(state.flows):
            here = state.price_at(server, klass, without if server in own else -1)
            if here is not None:
                found[server] = here
        return found

    def barred_for(self, s: int, field: Field) -> Optional[Floats]:
        """What memory says, where it says anything."""
        if self.allowed is None and self.tight and not self.rent:
            free = self._memory[field.devices] - np.array(self.state.used)[field.devices]
            if free.min() >= self._whole_bytes[field.model]:
                return None
        return self._barred(s, field, 1.0)

    def _barred(self, s: int, field: Field, squeeze: float) -> Optional[Floats]:
        """What memory says to each run: nothing, so much more, or no."""
        barred = None if self.allowed is None else self._not_allowed(field, self.allowed)
        if not self.tight:
            return barred
        state, problem, at = self.state, self.problem, field.listed.at
        mine = {held for column, _ in state.mixes[s] for held in column.holds if state.users[held] == 1}
        leaving: Dict[int, int] = {}
        for held in mine:
            leaving[held[0]] = leaving.get(held[0], 0) + problem.memory_of(held)
        for place, device in enumerate(field.devices):
            free = problem.memory[device] - state.used[device] + leaving.get(device, 0)
            if free >= self._whole_bytes[field.model] and not self.rent:
                continue
            kept = state.kept.get((device, field.model), set())
            staying = [at[p] for p in kept if p in at and (device, field.model, *p) not in mine]
            need = field.needs
            if staying:
                need = need - field.listed.parts[:, staying] @ field.memory[staying]
            if barred is None:
                barred = np.zeros((len(field.listed.rows), len(field.devices)))
            over = np.maximum(0.0, need - squeeze * max(0, free))
            if self.rent:
                barred[:, place] += need * (self.rent / problem.demands[s].spec.rate_hz)
            if math.isinf(self.byte_price):
                barred[:, place] += np.where(over > 0, np.inf, 0.0)
            else:
                barred[:, place] += over * (self.byte_price / problem.demands[s].spec.rate_hz)
        return barred

    def _not_allowed(self, field: Field, allowed: Allowed) -> Floats:
        barred = np.zeros((len(field.listed.rows), len(field.devices)))
        for n, device in enumerate(field.devices):
            here = allowed.get(device, set())
            lacking = np.array([float((field.model, first) not in here) for first, _ in field.listed.pieces])
            barred[:, n] = np.where(field.listed.parts @ lacking > 0, np.inf, 0.0)
        return barred

    def _line(self, s: int, options: List[Tuple[Column, float]], worst: int, best: int, slope: float) -> Change:
        """The best share to move: parabolas through the slope at 0 (``slope``: gain per share) and the last try. All of
        it is tried too, since J may bend the other way."""
        whole = options[worst][1]

        def at(moved: float) -> Change:
            shares = [(c, f - moved if n == worst else f + moved if n == best else f)
                      for n, (c, f) in enumerate(options)]  # fmt: skip
            return self.state.weigh(s, mixed(shares, SHARE_MIN))

        found, moved = [at(whole)], whole
        for _ in range(STEPS):
            bend = (slope * moved - found[-1].gain) / (moved * moved)
            following = slope / (2 * bend) if bend > 0 else whole
            following = min(whole, max(following, 0.1 * moved))
            if abs(following - moved) <= 0.05 * moved or following < SHARE_MIN:
                break
            moved = following
            found.append(at(moved))
        return max(found, key=lambda change: change.gain)

    def _scale(self, s: int) -> float:
        spec = self.problem.demands[s].spec
        return spec.gamma * spec.rate_hz * 1e-3
