"""The best integral plan, proven: branch and bound over whole routes, one source after the other.

The bound rests on ``servers``: J is a power series in the rates with no negative coefficient, so for any sources the
harm they do together is at least the sum of the harms of its pairs. With A placed and r_t the route of source t::

    J(A + all r_t) >= J(A) + sum over t of [ J(A + r_t) - J(A) ] + sum over pairs of [ J(r_t + r_u) - J(r_t) - J(r_u) ]

What is minimised over the routes of each source alone is a bound for all that may follow, and it lacks only what three
sources or more do to each other. Memory cuts off whatever does not fit already, since residents only add up.
Among plans equal to 12 digits the one with the fewest visits is kept, then the first found.
"""

import math
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from pamdi.controller.solver.columns import Routes, all_visits, costs
from pamdi.controller.solver.problem import Column, Held, Problem
from pamdi.controller.solver.variants import Floats
from pamdi.core.errors import PamdiError

ROUTES_MAX = 20_000  # of one source
PAIRS_MAX = 4_000_000  # entries of one table of pairs; a larger one is done without
NODES_MAX = 120_000  # about a minute
EQUAL = 1e-12  # relative


class TooLarge(PamdiError):
    """The instance is beyond what ``exact`` can prove."""


class Best(NamedTuple):
    """The columns of the best plan by source, its J; ``proven``: nothing better exists. ``nodes``: looked at."""

    columns: Tuple[Column, ...]
    objective: float
    proven: bool
    nodes: int


def exact(problem: Problem, nodes_max: int = NODES_MAX, stop_at_limit: bool = False) -> Optional[Best]:
    """None when no plan is feasible. Raises TooLarge, at the limit of nodes only unless ``stop_at_limit``."""
    best = _Branching(problem, nodes_max).run()
    if best is not None and not best.proven and not stop_at_limit:
        raise TooLarge(
            f"exact: {nodes_max} partial plans were not enough to prove the best for {len(problem.demands)} sources "
            f"on {len(problem.ids)} devices: use --solver fast"
        )
    return best


def routes_of(problem: Problem, s: int) -> int:
    """How many routes source ``s`` has before anything is ruled out."""
    demand = problem.demands[s]
    able = sum(problem.able(d, demand.model) for d in range(len(problem.ids)))
    return int(able * (able + 1) ** (len(problem.models[demand.model].memory) - 1))


class _Branching:
    def __init__(self, problem: Problem, nodes_max: int) -> None:
        self.problem, self.nodes_max, self.nodes = problem, nodes_max, 0
        self.classes = max((d.klass for d in problem.demands), default=1)
        for s, demand in enumerate(problem.demands):
            if routes_of(problem, s) > ROUTES_MAX:
                raise TooLarge(
                    f"exact: source {demand.spec.id} has {routes_of(problem, s)} routes over {len(problem.ids)} "
                    f"devices, at most {ROUTES_MAX} can be looked at: use --solver fast"
                )
        columns = [self._columns(s) for s in range(len(problem.demands))]
        self.residents: Dict[Held, int] = {}
        for held in (held for found in columns for column in found for held in column.holds):
            self.residents.setdefault(held, len(self.residents))
        self.bytes: Floats = np.zeros((len(self.residents), len(problem.ids)))
        for held, n in self.residents.items():
            self.bytes[n, held[0]] = problem.memory_of(held)
        self.memory: Floats = np.array([float(m) for m in problem.memory])
        self.routes = [Routes(problem, s, found, self.residents) for s, found in enumerate(columns)]
        self.pairs: Dict[Tuple[int, int], Floats] = {}
        self.best_j, self.best_visits, self.best = math.inf, math.inf, None  # type: float, float, Optional[List[int]]

    def _columns(self, s: int) -> List[Column]:
        problem, demand = self.problem, self.problem.demands[s]
        able = [d for d in range(len(problem.ids)) if problem.able(d, demand.model)]
        listed = (problem.column(s, visits) for visits in all_visits(len(problem.models[demand.model].memory), able))
        return [column for column in listed if column is not None and self._fits(column)]

    def _fits(self, column: Column) -> bool:
        used: Dict[int, int] = {}
        for held in column.holds:
            used[held[0]] = used.get(held[0], 0) + self.problem.memory_of(held)
        return all(size <= self.problem.memory[device] for device, size in used.items())

    def run(self) -> Optional[Best]:
        count = len(self.routes)
        if not count:
            return Best((), 0.0, True, 0)
        alone = [self._more({}, 0.0, s) for s in range(count)]
        for s, routes in enumerate(self.routes):
            some = np.flatnonzero(np.isfinite(alone[s]))
            routes.keep(some)
            alone[s] = alone[s][some]
            if not len(some):
                return None
        self.alone = alone
        self._pair_up()
        nothing = np.zeros(len(self.residents))
        self._place([], {}, nothing, 0.0, 0.0, list(alone))
        if self.best is None:
            return None if self.nodes < self.nodes_max else Best((), math.inf, False, self.nodes)
        columns = tuple(self.routes[s].columns[n] for s, n in enumerate(self.best))
        return Best(columns, self.best_j, self.nodes < self.nodes_max, self.nodes)

    def _more(self, base: Dict[int, Floats], objective: float, s: int) -> Floats:
        """J of ``base`` and each route of ``s``, less ``objective`` (J of ``base``)."""
        routes = self.routes[s]
        total: Floats = routes.fixed.copy()
        for server, which in routes.which.items():
            here = base.get(server)
            table = costs(routes.table(here, server, self.classes))
            total += (table - table[0])[which]
        return total

    def _pair_up(self) -> None:
        """What each two routes do to each other; infinite when they do not fit together."""
        for s, ours in enumerate(self.routes):
            for t in range(s + 1, len(self.routes)):
                theirs = self.routes[t]
                if len(ours.columns) * len(theirs.columns) <= PAIRS_MAX:
                    self.pairs[s, t] = self._harm(ours, theirs) + self._misfit(ours, theirs)

    def _harm(self, ours: Routes, theirs: Routes) -> Floats:
        harm = np.zeros((len(ours.columns), len(theirs.columns)))
        for server in ours.which.keys() & theirs.which.keys():
            one, two = ours.table(None, server, self.classes), theirs.table(None, server, self.classes)
            both = costs(one[:, None] + two[None, :])
            with np.errstate(invalid="ignore"):  # loads that no route left over has
                both = both - costs(one)[:, None] - costs(two)[None, :]
            harm += both[ours.which[server][:, None], theirs.which[server][None, :]]
        return np.maximum(harm, 0.0)

    def _misfit(self, ours: Routes, theirs: Routes) -> Floats:
        found = np.zeros((len(ours.columns), len(theirs.columns)))
        for device, have in enumerate(self.memory):
            weighed = ours.holds * self.bytes[:, device]
            used = weighed.sum(axis=1)[:, None] + (theirs.holds @ self.bytes[:, device])[None, :]
            found[used - weighed @ theirs.holds.T > have + 0.5] = math.inf
        return found

    def _place(
        self,
        chosen: List[int],
        base: Dict[int, Floats],
        held: Floats,
        objective: float,
        visits: float,
        harms: List[Floats],
    ) -> None:
        """Routes of the sources from ``len(chosen)`` on. ``harms[t]``: harm of the chosen to each route of t, and its
        own cost alone."""
        s, routes = len(chosen), self.routes[len(chosen)]
        more = self._more(base, objective, s)
        more[~self._room(held, routes)] = math.inf
        bound = objective + more
        for t in range(s + 1, len(self.routes)):
            pair = self.pairs.get((s, t))
            bound = bound + ((harms[t][None, :] + pair).min(axis=1) if pair is not None else harms[t].min())
        order = np.argsort(bound, kind="stable")
        for n in order:
            self.nodes += 1
            worse = not math.isfinite(bound[n]) or bound[n] > self.best_j * (1 + EQUAL)
            if worse or self.nodes >= self.nodes_max:
                return
            reached = objective + float(more[n])
            if s + 1 == len(self.routes):
                self._finish([*chosen, int(n)], reached, visits + float(routes.visits[n]))
                continue
            following = list(harms)
            for t in range(s + 1, len(self.routes)):
                if (s, t) in self.pairs:
                    following[t] = harms[t] + self.pairs[s, t][n]
            self._place(
                [*chosen, int(n)], self._with(base, routes, int(n)), np.maximum(held, routes.holds[n]), reached,
                visits + float(routes.visits[n]), following,
            )  # fmt: skip

    def _room(self, held: Floats, routes: Routes) -> "np.typing.NDArray[np.bool_]":
        used = held @ self.bytes + (routes.holds * (1.0 - held)) @ self.bytes
        return np.asarray((used <= self.memory + 0.5).all(axis=1))

    def _with(self, base: Dict[int, Floats], routes: Routes, n: int) -> Dict[int, Floats]:
        after = dict(base)
        for server, which in routes.which.items():
            if which[n]:
                six = after[server].copy() if server in after else np.zeros((self.classes, 6))
                six[routes.klass - 1] += routes.sums[server][which[n]]
                after[server] = six
        return after

    def _finish(self, chosen: List[int], objective: float, visits: float) -> None:
        better = objective < self.best_j * (1 - EQUAL)
        if better or (objective <= self.best_j * (1 + EQUAL) and visits < self.best_visits):
            self.best_j, self.best_visits, self.best = min(objective, self.best_j), visits, chosen
