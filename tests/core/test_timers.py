"""Timers: moments that can be moved and forgotten, in memory that follows what is awaited."""

import random
from typing import Dict, List

from pamdi.core.timers import NEVER, SWEEP_BEYOND, Timers


def test_moments_fire_in_order_and_equal_ones_in_the_order_set() -> None:
    timers, fired = Timers(), []  # type: ignore[var-annotated]
    for at, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (3.0, "d")):
        timers.set(at, fired.append, name)
    timers.fire(2.0)
    assert fired == ["a", "b", "c"] and timers.next_at == 3.0


def test_setting_a_moment_again_moves_it_and_dropping_it_forgets_it() -> None:
    timers, fired = Timers(), []  # type: ignore[var-annotated]
    timers.set(1.0, fired.append, "moved")
    timers.set(5.0, fired.append, "moved")
    timers.set(2.0, fired.append, "dropped")
    timers.drop(fired.append, "dropped")
    assert timers.next_at == 5.0
    timers.fire(4.0)
    assert fired == []
    timers.fire(5.0)
    assert fired == ["moved"]


def test_forgotten_moments_are_swept_however_many_come_and_go() -> None:
    timers = Timers()
    fired: List[int] = []
    sizes = []
    for i in range(100_000):
        timers.set(1e6 + i, fired.append, i)
        timers.drop(fired.append, i - 100)
        sizes.append(len(timers))
    assert max(sizes) <= 2 * 101 + SWEEP_BEYOND + 1


def test_the_next_moment_stays_true_whatever_is_set_moved_dropped_or_fired() -> None:
    timers, dice = Timers(), random.Random(1)
    awaited: Dict[int, float] = {}

    def fired(i: int) -> None:
        del awaited[i]

    now = 0.0
    for _ in range(5_000):
        i, step = dice.randrange(40), dice.random()
        if step < 0.5:
            awaited[i] = now + dice.randrange(50)
            timers.set(awaited[i], fired, i)
        elif step < 0.9:
            awaited.pop(i, None)
            timers.drop(fired, i)
        else:
            now += dice.randrange(10)
            timers.fire(now)
        assert timers.next_at == min(awaited.values(), default=NEVER)
