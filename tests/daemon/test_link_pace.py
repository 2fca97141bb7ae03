"""Emulated rate and delay, on a pretended clock: the mean is the stated one, and nothing leaves in bursts."""

from typing import Any, Callable, List, Tuple

import pytest

from pamdi.daemon.pace import LATE_S_MAX, Delay, Pace

FRAME_BYTES = 16_384


def frames_within(pace: Pace, seconds: float, late_s: float) -> int:
    """Frames that leave when every timer fires ``late_s`` late."""
    now, count = 0.0, 0
    while now < seconds:
        wait_s = pace.wait_s(now)
        if wait_s:
            now += wait_s + late_s
        else:
            pace.spend(FRAME_BYTES, now)
            count += 1
    return count


@pytest.mark.parametrize("rate", [2_500_000.0, 12_500_000.0])
@pytest.mark.parametrize("late_s", [0.0, 0.0004, 0.001, 0.003])
def test_the_mean_rate_is_the_stated_one_however_late_the_timers(rate: float, late_s: float) -> None:
    assert frames_within(Pace(rate), 10.0, late_s) * FRAME_BYTES == pytest.approx(rate * 10.0, rel=0.01)


def test_after_a_rest_one_frame_leaves_and_the_next_waits() -> None:
    pace = Pace(1_000_000.0)
    for now in (5.0, 500.0):
        assert pace.wait_s(now) == 0.0
        pace.spend(10_000, now)
        assert pace.wait_s(now) == pytest.approx(0.01)
        assert pace.wait_s(now + 0.01) == 0.0
        pace.rest()


def test_a_machine_that_slept_gets_little_back() -> None:
    pace = Pace(1_000_000.0)
    pace.spend(1000, 0.0)
    assert pace.wait_s(0.0) > 0.0
    burst = 0
    while pace.wait_s(60.0) == 0.0:
        pace.spend(1000, 60.0)
        burst += 1
    assert burst <= LATE_S_MAX / 0.001 + 2


class Timers:
    """A loop's clock and call_later, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.set: List[Tuple[float, Callable[[], None]]] = []

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Any:
        entry = (self.now + delay_s, call)
        self.set.append(entry)
        timers = self.set

        class Handle:
            def cancel(self) -> None:
                if entry in timers:
                    timers.remove(entry)

        return Handle()

    def advance(self, to: float) -> None:
        self.now = to
        for entry in [entry for entry in self.set if entry[0] <= to]:
            self.set.remove(entry)
            entry[1]()


def test_what_is_delayed_comes_in_order_after_its_delay() -> None:
    timers = Timers()
    came: List[str] = []
    delay = Delay(0.5, lambda: timers.now, timers.call_later)
    delay.put(lambda: came.append("first"))
    delay.put(lambda: came.append("second"))
    timers.advance(0.25)
    delay.put(lambda: came.append("third"))
    assert came == [] and len(timers.set) == 1
    timers.advance(0.5)
    assert came == ["first", "second"]
    timers.advance(0.75)
    assert came == ["first", "second", "third"] and timers.set == []


def test_what_is_on_its_way_when_the_link_is_cut_never_comes() -> None:
    timers = Timers()
    came: List[str] = []
    delay = Delay(0.5, lambda: timers.now, timers.call_later)
    delay.put(lambda: came.append("first"))
    delay.cancel()
    timers.advance(10.0)
    assert came == []
