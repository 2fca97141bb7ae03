"""What routes hold in memory, by users: a resident that nobody goes to any more frees its place.

For a whole crowd memory is one product of matrices: the pieces that each run wants, times those that a device lacks.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import numpy.typing as npt

from pamdi.controller.solver.crowd import Crowd
from pamdi.controller.solver.problem import Problem, Visit
from pamdi.controller.solver.variants import Floats, Ints, Variants
from pamdi.controller.solver.walk import Bars

Visits = Tuple[Visit, ...]


class Asked(NamedTuple):
    """Bytes of each row's pieces [rows, pieces], and which pieces those are."""

    nbytes: Floats
    first: Ints
    stop: Ints


class Memory:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        models = range(len(problem.models))
        self._free = list(problem.memory)
        self._sizes = [_sizes(problem, model) for model in models]
        self._users: List[Dict[Visit, int]] = [{} for _ in models]
        counts = [len(entry.memory) for entry in problem.models]
        self._lacks: "List[npt.NDArray[np.bool_]]" = [  # [first, stop, device]
            np.ones((count, count + 1, len(problem.ids)), dtype=bool) for count in counts
        ]
        self._asked: Dict[Tuple[int, int], Asked] = {}

    def hold(self, model: int, visits: Visits) -> bool:
        """Whether there is room for what is not held yet; then all of it has one user more."""
        users, sizes = self._users[model], self._sizes[model]
        fresh = [visit for visit in visits if visit not in users]
        if fresh:
            more: Dict[int, int] = {}
            for first, stop, device in fresh:
                more[device] = more.get(device, 0) + sizes[first, stop]
            if any(nbytes > self._free[d] for d, nbytes in more.items()):
                return False
            for d, nbytes in more.items():
                self._free[d] -= nbytes
            for visit in fresh:
                self._lacks[model][visit] = False
        for visit in visits:
            users[visit] = users.get(visit, 0) + 1
        return True

    def let_go(self, model: int, visits: Visits) -> None:
        users = self._users[model]
        for visit in visits:
            users[visit] -= 1
            if not users[visit]:
                del users[visit]
                first, stop, device = visit
                self._free[device] += self._sizes[model][first, stop]
                self._lacks[model][visit] = True

    def bars(self, crowd: Crowd, rent: float = 0.0) -> Optional[Bars]:
        """Infinite where a run's pieces would not fit beside what is held; ``rent``: what to hold the whole model anew
        would cost more, as a share of its seconds. None where all fit."""
        model, devices = crowd.model, crowd.devices
        free = np.array(self._free, dtype=np.float64)[devices]
        memory_of_all = float(sum(self.problem.models[model].memory))
        short = free < memory_of_all
        if not short.any():
            return None
        asked = self._asked_by(model, crowd.listed)
        lacking = self._lacks[model][asked.first[:, None], asked.stop[:, None], devices[short]]
        need = asked.nbytes @ lacking
        add = np.where(need > free[short], np.inf, need * (rent * crowd.whole_s / memory_of_all))
        number = np.cumsum(short) - 1
        pairs = np.flatnonzero(short[crowd.place])
        return Bars(pairs, number[crowd.place[pairs]], add)

    def _asked_by(self, model: int, listed: Variants) -> Asked:
        key = (model, len(listed.pieces))
        if key not in self._asked:
            first, stop = (np.array(ends, dtype=np.intp) for ends in zip(*listed.pieces))
            nbytes = np.array([float(self._sizes[model][piece]) for piece in listed.pieces])
            self._asked[key] = Asked(listed.parts * nbytes, first, stop)
        return self._asked[key]


def _sizes(problem: Problem, model: int) -> Dict[Tuple[int, int], int]:
    """Bytes of every piece."""
    count = len(problem.models[model].memory)
    pieces = ((first, stop) for stop in range(1, count + 1) for first in range(stop))
    return {piece: problem.memory_of((0, model, *piece)) for piece in pieces}
