"""Prices as they will be, once those who look for routes now have gone them.

After a round every source has one cost for all its routes, but a device that few of them know is still cheap: all are
offered it, it fills, and the next round finds the next ones cheap. When all has settled, devices of one kind cost about
alike, wherever they are, and a source goes to those that are near. So routes are looked for as if each device's prices
had come some way towards the median of its kind: at first nearly all of it, later nothing. Only where routes are looked
for: shares even out at what things cost.
"""

from typing import Dict, List

import numpy as np

from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.variants import Floats, Ints


class Outlook:
    """``kinds``: the devices of each type."""

    def __init__(self, problem: Problem) -> None:
        found: Dict[str, List[int]] = {}
        for d, board in enumerate(problem.boards):
            found.setdefault(board.type, []).append(d)
        self.kinds: List[Ints] = [np.array(devices, dtype=np.intp) for devices in found.values()]

    def slopes(self, now: Floats, way: float) -> Floats:
        """``now`` [6, classes, servers] with devices ``way`` of the way to the median of their kind."""
        if way <= 0.0:
            return now
        slopes: Floats = now.copy()
        for devices in self.kinds:
            here = now[:, :, devices]
            slopes[:, :, devices] = (1 - way) * here + way * np.median(here, axis=2, keepdims=True)
        return slopes
