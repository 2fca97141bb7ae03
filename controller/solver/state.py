"""A plan while it is made: each source's mix of columns, what every server and memory carries, and what a change of
one source's mix would do to J. Only the servers that the change touches are looked at."""

import math
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Set, Tuple

from pamdi.controller.solver.problem import Column, Held, Problem
from pamdi.controller.solver.servers import Flow, Price, Sums, add, cost, load_of, price, scaled

Mix = Tuple[Tuple[Column, float], ...]  # columns and their fractions, which sum to 1


class Change(NamedTuple):
    """A mix that a source might take, and everything that follows from it."""

    source: int
    mix: Mix
    gain: float  # how much lower J would be
    sums: Dict[int, Sums]
    costs: Dict[int, float]


class State:
    """``edge``: see ``servers``. ``fixed[device]``: residents that stay, whoever uses them."""

    def __init__(self, problem: Problem, edge: float) -> None:
        self.problem = problem
        self.edge = edge
        self.mixes: List[Mix] = [()] * len(problem.demands)
        self.flows: Dict[int, Dict[int, Sums]] = {}
        self.costs: Dict[int, float] = {}
        self._own: List[Dict[int, Sums]] = [{} for _ in problem.demands]
        self._prices: Dict[int, Dict[int, Price]] = {}
        self.users: Dict[Held, int] = {}
        self.used = [0] * len(problem.ids)
        self.kept: Dict[Tuple[int, int], Set[Tuple[int, int]]] = {}  # device, model: the residents

    def objective(self) -> float:
        fixed = (self._fixed(s, mix) for s, mix in enumerate(self.mixes))
        return math.fsum((*self.costs.values(), *fixed))

    def reset_edge(self, edge: float) -> None:
        self.edge = edge
        self._prices.clear()
        self.costs = {server: cost(self.flows_at(server), edge) for server in self.flows}

    def flows_at(self, server: int, without: int = -1) -> List[Flow]:
        """In order of class."""
        here = self.flows.get(server)
        if not here:
            return []
        demands = self.problem.demands
        return [(demands[s].klass, here[s]) for s in sorted(here) if s != without]

    def price_at(self, server: int, klass: int, without: int = -1) -> Optional[Price]:
        """The slope there; None where nothing is."""
        here = self.flows.get(server)
        if not here:
            return None
        if without in here:
            if len(here) == 1:
                return None
            return price(self.flows_at(server, without), klass, self.edge)
        known = self._prices.get(server)
        if known is None:
            known = self._prices[server] = {}
        found = known.get(klass)
        if found is None:
            found = known[klass] = price(self.flows_at(server), klass, self.edge)
        return found

    def load(self, server: int) -> float:
        return load_of(self.flows_at(server))

    def full(self) -> bool:
        return any(self.load(server) >= 1.0 for server in self.flows)

    # -- changes ---------------------------------------------------------------------------------------------------

    def weigh(self, s: int, mix: Mix) -> Change:
        demands = self.problem.demands
        sums, klass = self._sums(s, mix), demands[s].klass
        gain = self._fixed(s, self.mixes[s]) - self._fixed(s, mix)
        costs: Dict[int, float] = {}
        for server in sums.keys() | self._own[s].keys():
            mine = sums.get(server)
            here = self.flows.get(server)
            if not here:
                flows: List[Flow] = [(klass, mine)] if mine else []
            else:
                flows = []
                for other in sorted({*here, s}):
                    if other != s:
                        flows.append((demands[other].klass, here[other]))
                    elif mine:
                        flows.append((klass, mine))
            costs[server] = new = cost(flows, self.edge) if flows else 0.0
            gain += self.costs.get(server, 0.0) - new
        return Change(s, mix, gain, sums, costs)

    def take(self, change: Change) -> None:
        s = change.source
        for server in self._own[s]:
            if server not in change.sums:
                del self.flows[server][s]
        for server, sums in change.sums.items():
            self.flows.setdefault(server, {})[s] = sums
        for server, value in change.costs.items():
            self._prices.pop(server, None)
            if self.flows.get(server):
                self.costs[server] = value
            else:
                self.flows.pop(server, None)
                self.costs.pop(server, None)
        before, after = holds_of(self.mixes[s]), holds_of(change.mix)
        if before != after:
            self._hold(before - after, -1)
            self._hold(after - before, +1)
        self.mixes[s], self._own[s] = change.mix, change.sums

    def put(self, s: int, mix: Mix) -> None:
        self.take(self.weigh(s, mix))

    def offer(self, s: int, column: Column) -> None:
        """One route more for ``s``, at a share of nothing; its residents are held."""
        self._hold(frozenset(column.holds) - holds_of(self.mixes[s]), +1)
        self.mixes[s] = (*self.mixes[s], (column, 0.0))

    def own(self, s: int) -> Dict[int, Sums]:
        """What ``s`` puts on each server."""
        return self._own[s]

    # -- memory ----------------------------------------------------------------------------------------------------

    def _more(self, s: int, mix: Mix) -> Dict[int, int]:
        """Bytes more by device, were ``mix`` the source's."""
        before, after = holds_of(self.mixes[s]), holds_of(mix)
        more: Dict[int, int] = {}
        for held in after - before:
            if not self.users.get(held):
                more[held[0]] = more.get(held[0], 0) + self.problem.memory_of(held)
        for held in before - after:
            if self.users.get(held) == 1:
                more[held[0]] = more.get(held[0], 0) - self.problem.memory_of(held)
        return more

    def excess_change(self, s: int, mix: Mix) -> int:
        """Bytes too many, all devices together, that ``mix`` would add (or, negative, mend)."""
        total = 0
        for device, more in self._more(s, mix).items():
            over = self.used[device] - self.problem.memory[device]
            total += max(0, over + more) - max(0, over)
        return total

    def fits(self, s: int, mix: Mix) -> bool:
        over = ((self.used[d] + more - self.problem.memory[d], more) for d, more in self._more(s, mix).items())
        return not any(excess > 0 and more > 0 for excess, more in over)

    def excess(self) -> Dict[int, int]:
        """Bytes too few by device, as things are."""
        pairs = ((d, used - have) for d, (used, have) in enumerate(zip(self.used, self.problem.memory)))
        return {d: over for d, over in pairs if over > 0}

    def _hold(self, held: FrozenSet[Held], by: int) -> None:
        for one in held:
            count = self.users.get(one, 0) + by
            self.users[one] = count
            if count == (1 if by > 0 else 0):
                self.used[one[0]] += by * self.problem.memory_of(one)
                shelf = self.kept.setdefault(one[:2], set())
                (shelf.add if by > 0 else shelf.discard)(one[2:])

    # -- inside ----------------------------------------------------------------------------------------------------

    def _fixed(self, s: int, mix: Mix) -> float:
        spec = self.problem.demands[s].spec
        return spec.gamma * spec.rate_hz * math.fsum(share * column.fixed_s for column, share in mix)

    def _sums(self, s: int, mix: Mix) -> Dict[int, Sums]:
        spec = self.problem.demands[s].spec
        found: Dict[int, Sums] = {}
        for column, share in mix:
            for server, sums in column.uses:
                mine = scaled(sums, share * spec.rate_hz, spec.gamma)
                found[server] = add(found[server], mine) if server in found else mine
        return found


def holds_of(mix: Sequence[Tuple[Column, float]]) -> FrozenSet[Held]:
    return frozenset(held for column, _ in mix for held in column.holds)


def mixed(pairs: Sequence[Tuple[Column, float]], least: float = 0.0) -> Mix:
    """The same columns added up, fractions below ``least`` dropped, the rest made to sum to 1."""
    shares: Dict[Tuple[Tuple[int, int, int], ...], Tuple[Column, float]] = {}
    for column, share in pairs:
        before: Optional[Tuple[Column, float]] = shares.get(column.visits)
        shares[column.visits] = (column, share + (before[1] if before else 0.0))
    kept = [(column, share) for column, share in shares.values() if share > least]
    total = math.fsum(share for _, share in kept)
    return tuple((column, share / total) for column, share in kept)
