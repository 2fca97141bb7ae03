"""The links of a large fleet as arrays: who is near a device, and the paths of at most two links among a few devices.

A thousand devices have a million pairs; a source looks at a few hundred of them, and one lookup at a time in Python
would take longer than everything else. Only for fleets of [[link]] tables, well connected: a [[mesh]] needs no second
hop, and where links are few the paths are long.
"""

from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.variants import Floats, Ints

DEVICES_MIN = 33
DEGREE_MIN = 6.0
TABLE_MAX = 4096  # devices: for more, who has a link to whom is looked up, not tabled


class Ways(NamedTuple):
    """Paths among K devices. ``slots`` [hops, to, from]: which of the links comes as which hop, the last is none;
    ``fixed_s`` and ``lost`` [to, from]: delays and chances to fail added up, infinite where there is no path; by link
    ``rates`` and ``servers``."""

    slots: Ints
    fixed_s: Floats
    lost: Floats
    rates: Floats
    servers: List[int]


class Grid:
    def __init__(self, problem: Problem) -> None:
        network, ids = problem.network, problem.ids
        found = [network.link(a, b) for a in ids for b in network.beside(a)]
        links = [problem.hop(link) for link in found if link is not None]
        self.count = len(ids)
        self.key: Ints = np.array([link.a * self.count + link.b for link in links], dtype=np.intp)  # sorted by a, b
        self.to: Ints = self.key % self.count
        self.rate: Floats = np.array([link.rate_bytes_per_s for link in links])
        self.delay_s: Floats = np.array([link.delay_s for link in links])
        self.fails: Floats = np.array([link.fail_probability for link in links])
        self.server: Ints = np.array([link.server for link in links], dtype=np.intp)
        start = np.searchsorted(self.key, np.arange(self.count + 1) * self.count)
        self.degree = int((start[1:] - start[:-1]).max())
        reach = start[:-1, None] + np.arange(self.degree)[None, :]
        self.out: Ints = np.where(reach < start[1:, None], reach, -1)  # link numbers
        self.table: "Optional[np.typing.NDArray[np.bool_]]" = None
        if self.count <= TABLE_MAX:
            self.table = np.zeros((self.count + 1, self.count), dtype=bool)
            self.table[self.key // self.count, self.to] = True

    def near(self, head: int, nbytes: int, rings: int) -> Tuple[Ints, Floats]:
        """Devices within two rings of ``head``, and the seconds of ``nbytes`` to get there."""
        devices, away = self._beyond(np.array([head], dtype=np.intp), np.zeros(1), nbytes)
        if rings > 1:
            more, further = self._beyond(devices, away, nbytes)
            devices, away = np.concatenate((devices, more)), np.concatenate((away, further))
        order = np.lexsort((away, devices))
        devices, away = devices[order], away[order]
        first = np.ones(len(devices), dtype=bool)
        first[1:] = devices[1:] != devices[:-1]
        first &= devices != head
        return devices[first], away[first]

    def _beyond(self, devices: Ints, away: Floats, nbytes: int) -> Tuple[Ints, Floats]:
        links = self.out[devices]
        there = links >= 0
        through = links[there]
        reached = np.broadcast_to(away[:, None], links.shape)[there]
        return self.to[through], reached + nbytes / self.rate[through] + self.delay_s[through]

    def ways(self, devices: Ints) -> Ways:
        count = len(devices)
        direct = self._links(devices[:, None] * self.count + devices[None, :])
        out = self.out[devices]
        between = np.where(out >= 0, self.to[out], self.count)  # in order of number, which is in order of id
        meets = self._are(between[:, :, None], devices[None, None, :])
        at = meets.argmax(axis=1)  # the first of those in between
        rows = np.arange(count)[:, None]
        two = meets.any(axis=1) & (direct < 0)
        first = np.where(two, out[rows, at], direct)
        last = np.where(two, self._links(between[rows, at] * self.count + devices[None, :]), -1)
        np.fill_diagonal(first, -1)
        np.fill_diagonal(last, -1)
        both = np.stack((first.T, last.T))
        used, slots = np.unique(both, return_inverse=True)
        none = used[0] < 0
        used = used[1:] if none else used
        slots = slots.reshape(both.shape)
        slots = np.where(both >= 0, slots - (1 if none else 0), len(used))
        some = both >= 0
        fixed = np.where(some, self.delay_s[both], 0.0).sum(axis=0)
        lost = np.where(some, self.fails[both], 0.0).sum(axis=0)
        fixed[~some[0]] = np.inf
        return Ways(slots, fixed, lost, self.rate[used], [int(n) for n in self.server[used]])

    def _links(self, keys: Ints) -> Ints:
        """Link numbers, -1 where there is none."""
        at = np.minimum(np.searchsorted(self.key, keys), len(self.key) - 1)
        return np.where(self.key[at] == keys, at, -1)

    def _are(self, a: Ints, b: Ints) -> "np.typing.NDArray[np.bool_]":
        if self.table is not None:
            return np.asarray(self.table[a, b])
        return np.asarray(self._links(np.where(a < self.count, a * self.count + b, -1)) >= 0)


def grid_of(problem: Problem) -> Optional[Grid]:
    """The arrays, where they help."""
    fleet = problem.fleet
    degree = 2.0 * len(fleet.link) / max(1, len(problem.ids))
    if len(problem.ids) < DEVICES_MIN or fleet.mesh or degree < DEGREE_MIN:
        return None
    return Grid(problem)


def ways_by_path(problem: Problem, devices: List[int], hops_max: int) -> Ways:
    """The same for any fleet, one path after the other."""
    links: "dict[object, int]" = {}
    hops, found = [], []
    for i, a in enumerate(devices):
        for j, b in enumerate(devices):
            if i == j:
                continue
            path = problem.short_path(a, b) if hops_max <= 2 else problem.path(a, b)
            if path is not None and len(path) <= hops_max:
                found.append((i, j, path))
    slots = np.full((max((len(p) for _, _, p in found), default=1), len(devices), len(devices)), -1, dtype=np.intp)
    fixed, lost = np.full(slots.shape[1:], np.inf), np.zeros(slots.shape[1:])
    for i, j, path in found:
        for n, hop in enumerate(path):
            if hop not in links:
                links[hop] = len(links)
                hops.append(hop)
            slots[n, j, i] = links[hop]
        fixed[j, i] = sum(hop.delay_s for hop in path)
        lost[j, i] = sum(hop.fail_probability for hop in path)
    slots[slots < 0] = len(links)
    return Ways(
        slots, fixed, lost, np.array([hop.rate_bytes_per_s for hop in hops]), [hop.server for hop in hops]
    )  # fmt: skip
