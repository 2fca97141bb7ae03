"""What routes hold: counted by users, refused as a whole, and told to a crowd as the sizes of what each run lacks."""

import math

import numpy as np

from pamdi.controller.solver.around import Chosen
from pamdi.controller.solver.crowd import Crowd
from pamdi.controller.solver.grid import Grid
from pamdi.controller.solver.memory import Memory
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.reach import Reach
from pamdi.controller.solver.variants import variants
from tests.controller.solver.many import many

HERE, THERE = 3, 5  # devices
RENT = 0.5


def test_a_route_is_held_whole_or_not_at_all_and_freed_by_its_last_user() -> None:
    memory = Memory(Problem(many(1, memory=0.5)))  # 20 bytes: two units of 10
    assert memory.hold(0, ((0, 2, HERE), (2, 3, THERE)))
    assert not memory.hold(0, ((0, 1, THERE), (1, 3, HERE)))  # nothing is left here
    assert memory.hold(0, ((2, 3, THERE),))  # what is there already takes no more
    assert memory.hold(1, ((0, 1, THERE),)) and not memory.hold(1, ((1, 2, THERE),))
    memory.let_go(0, ((0, 2, HERE), (2, 3, THERE)))
    assert memory.hold(0, ((1, 3, HERE),)) and not memory.hold(0, ((0, 1, THERE),))
    memory.let_go(0, ((2, 3, THERE),))
    assert memory.hold(0, ((0, 1, THERE),))


def test_a_crowd_is_barred_from_runs_that_lack_more_than_is_free() -> None:
    problem = Problem(many(2, memory=0.5))
    reach, sources = Reach(Grid(problem)), [s for s, d in enumerate(problem.demands) if d.model == 0]
    devices = [[d.head, *(n for n in (HERE, THERE) if n != d.head)] for d in (problem.demands[s] for s in sources)]
    owner = np.repeat(np.arange(len(sources)), [len(mine) for mine in devices])
    chosen = Chosen(owner, np.array([d for mine in devices for d in mine], dtype=np.intp))
    listed = variants(len(problem.models[0].memory))
    crowd, memory = Crowd(problem, reach, sources, listed, chosen), Memory(problem)
    assert memory.hold(0, ((0, 2, HERE),)) and memory.hold(1, ((0, 1, THERE),))
    free = {HERE: 0, THERE: 10}
    bars = memory.bars(crowd, RENT)
    assert bars is not None
    seen = set()
    for pair, place in zip(bars.pairs.tolist(), bars.place.tolist()):
        device = int(crowd.device[pair])
        for row, pieces in enumerate(listed.rows):
            lacking = sum(10 * (b - a) for a, b in pieces if (device, a, b) != (HERE, 0, 2))
            price = lacking * RENT * crowd.whole_s / 30
            wanted = math.inf if lacking > free.get(device, 20) else price
            assert bars.add[row, place] == wanted, (device, pieces)
            seen.add((device in free, wanted < math.inf))
    assert seen == {(True, True), (True, False), (False, True), (False, False)}
    assert Memory(Problem(many(2, memory=5.0))).bars(crowd) is None
