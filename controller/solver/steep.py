"""J and its slope by arrays: ``servers.cost`` for thousands of servers at once.

Arrays are [6, classes, servers], the six sums of ``servers`` first: every step then runs along the servers, one class
after the other, and none of them jumps about in memory.
"""

from typing import Tuple

import numpy as np

from pamdi.controller.solver.variants import Floats

IDLE = np.array((0.0, 1.0, 1.0, 0.0, 0.0, 0.0))  # the slope where nobody is


def cost_and_slope(six: Floats, edge: float) -> Tuple[float, Floats]:
    """J's part of these servers, and its slope by each of the sums; ``edge`` above 0."""
    waits, cut, last, square, fine, load = six
    slope = np.empty_like(six)
    sigma, squares, finer = np.zeros(six.shape[2]), np.zeros(six.shape[2]), fine.sum(axis=0)
    fine_price = np.zeros(six.shape[2])
    above, above_bend = np.ones(six.shape[2]), np.zeros(six.shape[2])
    later = np.empty_like(waits)
    objective = 0.0
    for p in range(six.shape[1]):
        squares = squares + square[p]
        finer = finer - fine[p]
        sigma = sigma + load[p]
        free, bend = inverse(1.0 - sigma, edge)
        residual = 0.5 * (squares + finer)
        weighed = waits[p] * residual
        both = above * free
        slope[0, p] = residual * both
        slope[1, p] = above
        slope[4, p] = fine_price
        half = 0.5 * waits[p] * both
        fine_price = fine_price + half
        slope[3, p] = half  # and what the less urgent add, below
        slope[5, p] = weighed * above * bend  # likewise
        later[p] = (weighed * free + cut[p]) * above_bend  # of the load of the more urgent
        objective += float((weighed * both + cut[p] * above + last[p]).sum())
        above, above_bend = free, bend
    slope[2] = 1.0
    for p in range(six.shape[1] - 2, -1, -1):
        slope[3, p] += slope[3, p + 1]
        slope[5, p] += slope[5, p + 1] + later[p + 1]
    return objective, slope


def inverse(free: Floats, edge: float) -> Tuple[Floats, Floats]:
    """``servers.inverse`` and its slope by the load, on arrays."""
    inside = 1.0 / np.maximum(free, edge)
    return np.where(free > edge, inside, (2 * edge - free) / (edge * edge)), inside * inside
