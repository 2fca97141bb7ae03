"""All sources even out the shares of their routes in one step, which is shortened for all together until J falls.

Arrays are by route; the routes of a source stand together (``begins``: where; ``owner``: whose each is). Only this is
common to ``evening`` and ``together``, which know J, its slope and its bend in layouts of their own.
"""

from typing import Callable, Protocol, Tuple, TypeVar

import numpy as np

from pamdi.controller.solver.variants import Floats, Ints

HALVINGS = 24  # until a source's common slope is found
SETTLED = 1e-5  # of J: what a step gains at least


class HasObjective(Protocol):
    @property
    def objective(self) -> float: ...


Here = TypeVar("Here", bound=HasObjective)
Move = Tuple[Floats, float]


def descend(
    x: Floats, steps: int, shortest: float, look: Callable[[Floats], Here], move: Callable[[Floats, Here], Move]
) -> Tuple[Floats, Here]:
    """At most ``steps`` from the shares ``x``. ``look(x)``: J there, ``move(x, here)``: a whole step and what the slope
    promises for it. A step is given up below the share ``shortest`` of a whole one."""
    here, step = look(x), 1.0
    for _ in range(steps):
        way, promised = move(x, here)
        if promised <= SETTLED * abs(here.objective):
            break
        there = look(x + step * way)
        while there.objective >= here.objective and step > shortest:
            step /= 2
            there = look(x + step * way)
        if there.objective >= here.objective:
            break
        x, here, step = x + step * way, there, min(1.0, 1.4 * step)
    return x, here


def even_move(x: Floats, slope: Floats, bend: Floats, most: Floats, begins: Ints, owner: Ints) -> Move:
    """Where a whole step leads, and what the slope promises for it: every source's routes to one slope, as far as
    slope and bend tell it, no share growing by more than ``most``."""
    low, high = np.minimum.reduceat(slope, begins), np.maximum.reduceat(slope, begins)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        move = np.clip((middle[owner] - slope) / bend, -x, most)
        more = np.add.reduceat(move, begins) > 0
        low, high = np.where(more, low, middle), np.where(more, middle, high)
    given, taken = np.minimum(move, 0.0), np.maximum(move, 0.0)
    total = np.add.reduceat(taken, begins)
    share = np.minimum(1.0, -np.add.reduceat(given, begins) / np.maximum(total, 1e-300))
    taken = taken * share[owner]
    back = np.add.reduceat(taken, begins) / np.minimum(np.add.reduceat(given, begins), -1e-300)
    move = taken - given * back[owner]
    return move, float(-slope @ move)
