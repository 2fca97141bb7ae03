"""The layered graph around one source: unit boundary x device, and the cheapest route through it.

An arc is a whole run (units [first, stop) on one device, cut into pieces) or a whole transfer (the links of a path), so
that the pieces of one job are charged together: an arc per unit would make cuts look too cheap. What is still left out
is what two runs of one work on the same server do to each other; the caller rescores whole routes.

Devices are those given, usually the head's neighbourhood: a source of a fleet of thousands needs a few dozen.
"""

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from pamdi.controller.objective import FRAME_BYTES
from pamdi.controller.solver.grid import Ways
from pamdi.controller.solver.problem import Problem, Visit
from pamdi.controller.solver.servers import Price
from pamdi.controller.solver.variants import Floats, Ints, Variants

VISIT_S = 1e-12  # per visit, as a share of the idle time: among equals the route with the fewest visits


class Found(NamedTuple):
    """A route, and what the arcs said it costs per work."""

    visits: Tuple[Visit, ...]
    price: float


class Field:
    """``devices`` begin with the head; ``ways``: the paths among them."""

    def __init__(self, problem: Problem, s: int, devices: Sequence[int], listed: Variants, ways: Ways) -> None:
        demand = problem.demands[s]
        self.s, self.devices, self.listed = s, list(devices), listed
        self.gamma, self.alpha = demand.spec.gamma, demand.spec.alpha
        self.model = demand.model
        model = problem.models[demand.model]
        self.units = len(model.memory)
        self.penalty_s = problem.fleet.loss_penalty_s * self.alpha
        self._kept: Dict[Tuple[float, float], Tuple[Floats, Floats]] = {}
        self.slots, fixed_s, lost, self.rates, self.link_servers = ways
        self.fixed: Floats = fixed_s + self.penalty_s * lost
        self._servers = list(dict.fromkeys((*self.devices, *self.link_servers)))
        self._transfers(np.array(model.bytes, dtype=np.float64))
        self._runs(problem)

    def _transfers(self, nbytes: Floats) -> None:
        """Seconds of every tensor on every link, as ``Problem.transfer`` has them."""
        rate = self.rates[:, None]
        full, rest = np.divmod(nbytes[None, :], FRAME_BYTES)
        frame_s = FRAME_BYTES / rate
        self.moved_s: Floats = nbytes[None, :] / rate
        self.moved_last_s: Floats = np.where(rest > 0, rest / rate, np.where(full > 0, frame_s, 0.0))
        self.moved_fine: Floats = full * frame_s**2 + (rest / rate) ** 2

    def _runs(self, problem: Problem) -> None:
        count, rows = len(self.devices), len(self.listed.rows)
        self.total_s: Floats = np.ones((rows, count))
        self.last_s: Floats = np.zeros((rows, count))
        self.fine: Floats = np.zeros((rows, count))
        lost = [problem.boards[d].fail_probability for d in self.devices]
        self.lost_s: Floats = self.penalty_s * np.array([0.0 if n == 0 else p for n, p in enumerate(lost)])
        for n, device in enumerate(self.devices):
            times = problem.runs(self.model, device, self.listed)
            if times is None:
                self.lost_s[n] = np.inf  # it cannot run this model
            else:
                self.total_s[:, n], self.last_s[:, n], self.fine[:, n] = times
        self.memory: Floats = np.array([float(problem.memory_of((0, self.model, a, b))) for a, b in self.listed.pieces])
        self.needs: Floats = self.listed.parts @ self.memory
        self.extra: Floats = self.gamma * (self.lost_s + VISIT_S * self.listed.visits[:, None])

    # -- the cheapest route ----------------------------------------------------------------------------------------

    def cheapest(
        self, prices: Mapping[int, Price], rate_hz: float, edge: float, barred: Optional[Floats] = None
    ) -> Optional[Found]:
        """``prices`` of the servers that are not idle; a flow of ``rate_hz`` is placed whole (0: the slope only).
        ``barred`` [rows, devices]: what a run costs beside (memory), infinite when it may not be."""
        idle_runs, idle_moves = self._idle(rate_hz, edge)
        runs = self._price(prices, self.devices, self.total_s, self.last_s, self.fine, idle_runs, rate_hz, edge)
        if barred is not None:
            runs += barred
        return self._walk(runs, self._moves(prices, idle_moves, rate_hz, edge))

    def cheapest_by(self, slopes: Floats, barred: Optional[Floats] = None) -> Optional[Found]:
        """The same for the slope only, from ``slopes`` [all servers, 6]: of J by each of the sums of ``servers``, for
        this source's class."""
        wait, stretch, _, square, fine, load = slopes[self.devices].T
        t, end = self.total_s, self.last_s
        runs = self.gamma * (wait + (t - end) * stretch + end) + (square * t + load) * t + fine * self.fine + self.extra
        if barred is not None:
            runs += barred
        each = np.zeros((len(self.rates) + 1, self.units + 1))
        if len(self.rates):
            wait, stretch, _, square, fine, load = slopes[self.link_servers].T[:, :, None]
            t, end = self.moved_s, self.moved_last_s
            each[:-1] = self.gamma * (wait + (t - end) * stretch + end) + (square * t + load) * t
            each[:-1] += fine * self.moved_fine
        return self._walk(runs, self._ways(each))

    def _idle(self, rate_hz: float, edge: float) -> Tuple[Floats, Floats]:
        """Runs and transfers where nobody else is; kept, since most servers have nobody."""
        key = (rate_hz, edge)
        if key not in self._kept:
            both = []
            for total in (self.total_s, self.moved_s.T):
                own = rate_hz * total
                both.append(self.gamma * (total + 0.5 * own * total * _inverse(1.0 - own, edge)))
            self._kept[key] = (both[0] + self.extra, both[1])
        return self._kept[key]

    def _price(
        self, prices: Mapping[int, Price], servers: Sequence[int], total: Floats, last: Floats, fine: Floats,
        idle: Floats, rate_hz: float, edge: float,
    ) -> Floats:  # fmt: skip
        """Per work, for jobs [rows, servers]."""
        cost: Floats = idle.copy()
        busy = [n for n, server in enumerate(servers) if server in prices]
        if busy:
            at = np.array(busy)
            p = np.array([prices[servers[n]] for n in busy])
            wait, stretch, square, finer, load, residual, room, all_room = p.T
            t, end = total[:, at], last[:, at]
            if rate_hz:
                own = rate_hz * t
                wait = (residual + 0.5 * own * t * stretch) * _inverse(room - own, edge)
                load = load * (_inverse(all_room - own, edge) / _inverse(all_room, edge))
            here = self.gamma * (wait + (t - end) * stretch + end) + (square * t + load) * t + finer * fine[:, at]
            if servers is self.devices:
                here += self.extra[:, at]
            cost[:, at] = here
        return cost

    def _moves(self, prices: Mapping[int, Price], idle: Floats, rate_hz: float, edge: float) -> Floats:
        """[boundaries, to, from]"""
        links = len(self.rates)
        each = np.zeros((links + 1, self.units + 1))
        if links:
            each[:links] = self._price(
                prices, self.link_servers, self.moved_s.T, self.moved_last_s.T, self.moved_fine.T, idle, rate_hz, edge
            ).T
        return self._ways(each)

    def _ways(self, each: Floats) -> Floats:
        """[boundaries, to, from], from [links and none, boundaries]"""
        moves = each[self.slots[0]]
        for slot in self.slots[1:]:
            moves = moves + each[slot]
        moves += self.gamma * self.fixed[:, :, None]
        return np.ascontiguousarray(moves.transpose(2, 0, 1))

    def _walk(self, runs: Floats, moves: Floats) -> Optional[Found]:
        units, count, until = self.units, len(self.devices), self.listed.until
        ready: Floats = np.empty((units, count))  # the tensor has come, a run may begin
        ready[0] = moves[0][:, 0]
        ready[0, 0] = 0.0
        done: Floats = np.empty((units + 1, count))  # a run has ended here
        each = np.arange(count)
        rows: List[Ints] = []
        came: List[Ints] = [np.zeros(count, dtype=np.intp)]
        for b in range(1, units + 1):
            first, stop = until[b - 1], until[b]
            options = ready[self.listed.first[first:stop]] + runs[first:stop]
            row = options.argmin(axis=0)
            done[b] = options[row, each]
            rows.append(row + first)
            if b < units:
                arrivals = moves[b] + done[b][None, :]
                origin = arrivals.argmin(axis=1)
                ready[b] = arrivals[each, origin]
                came.append(origin)
        home = done[units] + moves[units][0]
        home[0] = done[units, 0]
        at = int(home.argmin())
        if not np.isfinite(home[at]):
            return None
        price, b = float(home[at]), units
        visits: List[Visit] = []
        while b:
            row = self.listed.rows[int(rows[b - 1][at])]
            visits = [(first, stop, self.devices[at]) for first, stop in row] + visits
            b = row[0][0]
            if b:
                at = int(came[b][at])
        return Found(tuple(visits), price)

    def busy(self, flows: Mapping[int, object]) -> List[int]:
        """Its servers that carry something."""
        return [server for server in self._servers if server in flows]


def _inverse(free: Floats, edge: float) -> Floats:
    """``servers.inverse`` on arrays."""
    if edge <= 0:
        return np.where(free > 0, 1.0 / np.where(free > 0, free, 1.0), np.inf)
    return np.where(free > edge, 1.0 / np.maximum(free, edge), (2 * edge - free) / (edge * edge))
