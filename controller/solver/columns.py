"""Every route of every source of a small fleet, and tables that price any combination of them at once.

At one server only few different loads can come from one source: its routes are numbered by them. So a server's cost for
all routes of a source, or of a pair of sources, is a small table, and the cost of a route is a sum of look-ups.
"""

import itertools
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from pamdi.controller.solver.problem import Column, Held, Problem, Visit
from pamdi.controller.solver.servers import scaled
from pamdi.controller.solver.variants import Floats, Ints

Six = Floats  # [..., classes, 6]: the sums of ``servers``


def all_visits(units: int, devices: Sequence[int]) -> List[Tuple[Visit, ...]]:
    """Every way to cut and place a model: D * (D + 1) ** (units - 1) of them, fewest visits first."""
    found: List[Tuple[Visit, ...]] = []
    for cuts in range(units):
        for inner in itertools.combinations(range(1, units), cuts):
            edges = (0, *inner, units)
            for places in itertools.product(devices, repeat=cuts + 1):
                found.append(tuple(zip(edges, edges[1:], places)))
    return found


class Routes:
    """The routes of one source that may be taken: ``sums[server]`` [different loads, 6], ``which`` [routes, servers]
    (their number), ``fixed`` [routes], ``holds`` [routes, residents], ``visits`` [routes]."""

    def __init__(self, problem: Problem, s: int, columns: List[Column], residents: Dict[Held, int]) -> None:
        spec = problem.demands[s].spec
        self.klass, self.columns = problem.demands[s].klass, columns
        self.fixed: Floats = np.array([spec.gamma * spec.rate_hz * c.fixed_s for c in columns])
        self.visits: Floats = np.array([float(len(c.visits)) for c in columns])
        self.sums: Dict[int, Floats] = {}
        self.which: Dict[int, Ints] = {}
        loads: Dict[int, Dict[Tuple[float, ...], int]] = {}
        for n, column in enumerate(columns):
            for server, sums in column.uses:
                rows = loads.setdefault(server, {(0.0,) * 6: 0})
                if server not in self.which:
                    self.which[server] = np.zeros(len(columns), dtype=np.intp)
                self.which[server][n] = rows.setdefault(scaled(sums, spec.rate_hz, spec.gamma), len(rows))
        for server, rows in loads.items():
            self.sums[server] = np.array(list(rows))
        self.holds: Floats = np.zeros((len(columns), len(residents)))
        for n, column in enumerate(columns):
            self.holds[n, [residents[held] for held in column.holds]] = 1.0

    def keep(self, some: Ints) -> None:
        """Only these routes from now on."""
        self.columns = [self.columns[n] for n in some]
        self.fixed, self.visits, self.holds = self.fixed[some], self.visits[some], self.holds[some]
        self.which = {server: numbers[some] for server, numbers in self.which.items()}

    def table(self, base: Optional[Floats], server: int, classes: int) -> Floats:
        """The sums at ``server`` by class, [different loads, classes, 6], on top of ``base`` [classes, 6]."""
        sums = self.sums[server]
        six = np.zeros((len(sums), classes, 6))
        if base is not None:
            six += base
        six[:, self.klass - 1] += sums
        return six


def costs(six: Six) -> Floats:
    """``servers.cost`` of [..., classes, 6], infinite where a class that uses the server finds it full."""
    with np.errstate(divide="ignore", invalid="ignore"):
        total = _costs(six)
    return np.where(np.isnan(total), np.inf, total)  # full above it, and nothing of its own


def _costs(six: Six) -> Floats:
    finer = six[..., 4].sum(axis=-1)
    squares = np.zeros(six.shape[:-2])
    sigma = np.zeros(six.shape[:-2])
    total = np.zeros(six.shape[:-2])
    above = np.ones(six.shape[:-2])
    for p in range(six.shape[-2]):
        here = six[..., p, :]
        squares = squares + here[..., 3]
        finer = finer - here[..., 4]
        sigma = sigma + here[..., 5]
        free = 1.0 - sigma
        inverse = np.where(free > 0, 1.0 / np.where(free > 0, free, 1.0), np.inf)
        used = here[..., 0] > 0
        held = np.where(used, 0.5 * (squares + finer), 1.0)
        wait = np.where(used, here[..., 0] * held * above * inverse, 0.0)
        stretched = np.where(here[..., 1] > 0, here[..., 1] * above, 0.0)
        total = total + wait + stretched + here[..., 2]
        above = np.where(used | np.isfinite(inverse), inverse, above)
    return total
