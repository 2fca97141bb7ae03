"""Who is reached from each device over at most two links, for a whole fleet at once.

A thousand devices of sixteen links have a quarter of a million such ways. Sorted by where they begin they are one
table, from which the ways among any few devices are picked by arrays (``crowd``). A direct link goes before any two;
of several devices in between the first by id is taken, as ``allocation.md`` says.
"""

from typing import Optional, Tuple

import numpy as np
import numpy.typing as npt

from pamdi.controller.solver.grid import TABLE_MAX, Grid
from pamdi.controller.solver.variants import Ints


class Reach:
    """Way w goes to device ``to[w]`` by links ``first[w]`` and then ``second[w]`` (-1: none). Those from device d are
    [``start[d]``, ``start[d + 1]``), by device reached."""

    def __init__(self, grid: Grid) -> None:
        count, links = grid.count, np.arange(len(grid.key))
        beyond = grid.out[grid.to]
        there = beyond >= 0
        before = np.broadcast_to(links[:, None], beyond.shape)[there]
        after = beyond[there]
        origin = grid.key // count
        keys = np.concatenate((grid.key, origin[before] * count + grid.to[after]))
        keys, at = np.unique(keys, return_index=True)  # the first of equals: links are in order of device
        away = keys // count != keys % count
        keys, at = keys[away], at[away]
        self.grid, self.count = grid, count
        self.to: Ints = keys % count
        self.first: Ints = np.concatenate((links, before))[at]
        self.second: Ints = np.concatenate((np.full(len(links), -1), after))[at]
        self.start: Ints = np.searchsorted(keys, np.arange(count + 1) * count)
        self._keys = keys
        self._table: "Optional[npt.NDArray[np.int32]]" = None
        if count <= TABLE_MAX:
            self._table = np.full(count * count, -1, dtype=np.int32)
            self._table[keys] = np.arange(len(keys), dtype=np.int32)

    def ways_from(self, devices: Ints) -> Tuple[Ints, Ints]:
        """All ways from each of ``devices``, and which of them each begins at (its place in ``devices``)."""
        return spans(self.start[devices], self.start[devices + 1])

    def ways_between(self, begin: Ints, end: Ints) -> Ints:
        """The way from each of ``begin`` to ``end``, elementwise; -1 where there is none."""
        keys = begin * self.count + end
        if self._table is not None:
            return np.asarray(self._table[keys], dtype=np.intp)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, at, -1)


def spans(start: Ints, stop: Ints) -> Tuple[Ints, Ints]:
    """The numbers of all ranges [start, stop), one after the other, and the range of each."""
    sizes = stop - start
    which = np.repeat(np.arange(len(start)), sizes)
    shift = start - np.concatenate((np.zeros(1, dtype=np.intp), np.cumsum(sizes)[:-1]))
    return np.arange(len(which)) + shift[which], which
