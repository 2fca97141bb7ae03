"""When a device counts as slower than its table: after the delay and not before, not for a flicker, and back again."""

from typing import List, Sequence

import pytest

from pamdi.controller.slowed import NORMAL, Slower, Speed, Terms, with_slower
from tests.controller.fleets import fleet, net

TERMS = Terms(slow_factor=1.5, normal_factor=1.2, slow_delay_s=30.0, slow_forget_s=600.0)
MODELS = {"net": net()}  # four units of 10 ms
TABLE_S = 0.01


class Heard:
    """One device, a beacon a second; every value differs a little from the last, as means of real runs do."""

    def __init__(self, terms: Terms = TERMS) -> None:
        self.speed, self.terms, self.now, self._flip = Speed(), terms, 0.0, 0
        self.changes: List[float] = []

    def beacons(self, factors: Sequence[float], units: Sequence[int] = range(4)) -> "Heard":
        for factor in factors:
            self._flip ^= 1
            seconds = TABLE_S * (factor + 0.002 * self._flip + 0.001)
            self.say([("net", u, u + 1, seconds) for u in units])
        return self

    def say(self, ready: Sequence["tuple[str, int, int, float]"]) -> None:
        self.now += 1.0
        if self.speed.heard(ready, MODELS, "board", self.now, self.terms):
            self.changes.append(self.now)


def test_a_slow_device_counts_as_slow_after_the_delay_and_not_before() -> None:
    heard = Heard().beacons([1.0] * 5 + [2.0] * 30)
    assert (heard.changes, heard.speed.planned) == ([], NORMAL)
    heard.beacons([2.0])
    assert heard.changes == [36.0]
    assert heard.speed.planned.factor == pytest.approx(2.0, rel=0.01)


def test_a_flicker_begins_the_delay_anew() -> None:
    heard = Heard().beacons(([2.0] * 29 + [1.4]) * 10)
    assert heard.changes == []


def test_it_is_normal_again_only_under_the_lower_line_for_the_delay() -> None:
    heard = Heard().beacons([2.0] * 31 + [1.4] * 300)
    assert len(heard.changes) == 1  # between the two lines nothing changes
    heard.beacons([1.1] * 29 + [1.4] + [1.1] * 30)
    assert len(heard.changes) == 1
    heard.beacons([1.1])
    assert heard.speed.planned is NORMAL and len(heard.changes) == 2


def test_what_gets_worse_still_or_much_better_is_planned_with_anew() -> None:
    heard = Heard().beacons([2.0] * 31 + [2.5] * 60 + [4.0] * 31)
    assert [round(heard.speed.planned.factor), len(heard.changes)] == [4, 2]
    heard.beacons([1.8] * 31)
    assert [round(heard.speed.planned.factor, 1), len(heard.changes)] == [1.8, 3]


def test_segments_that_do_not_run_say_nothing() -> None:
    heard = Heard()
    for _ in range(100):
        heard.say([("net", 0, 1, 5 * TABLE_S)])  # ran slowly once, long ago
    assert heard.changes == []


def test_a_device_that_runs_once_an_hour_is_not_judged() -> None:
    heard = Heard()
    for _ in range(5):
        heard.beacons([9.0])
        heard.now += 3600.0
    assert heard.changes == []


def test_a_loaded_segment_that_has_not_run_says_nothing_of_speed() -> None:
    heard = Heard().beacons([2.0] * 31)
    for _ in range(100):
        heard.say([("net", u, u + 1, TABLE_S) for u in range(4)])  # loaded anew: the table's word
    assert len(heard.changes) == 1 and heard.speed.planned.factor > 1.9


def test_after_a_long_silence_the_table_is_believed_again() -> None:
    heard = Heard().beacons([2.0] * 31)
    assert not heard.speed.age(heard.now + 599.0, TERMS)
    assert heard.speed.age(heard.now + 600.0, TERMS)
    assert heard.speed.planned is NORMAL
    assert not heard.speed.age(heard.now + 601.0, TERMS)


def test_only_what_runs_of_late_counts() -> None:
    """Three of four units ran slowly before they went elsewhere; the one that still runs is as fast as ever."""
    heard = Heard().beacons([2.0] * 31).beacons([1.0] * 62, units=[0])
    assert heard.speed.planned is NORMAL


def test_nonsense_and_strangers_count_for_nothing() -> None:
    heard = Heard()
    for n in range(100):
        heard.say([("net", 0, 1, float("nan")), ("net", 0, 1, 1e9 + n)])
        heard.say([("net", 3, 9, 1.0 + n), ("other", 0, 1, 1.0 + n)])
    assert heard.changes == []


def test_a_factor_of_zero_switches_it_off_and_forgets() -> None:
    off = TERMS._replace(slow_factor=0.0)
    assert Heard(off).beacons([9.0] * 100).changes == []
    heard = Heard().beacons([2.0] * 31)
    assert heard.speed.age(heard.now, off) and heard.speed.planned is NORMAL


def test_a_slower_device_is_of_a_type_of_its_own_in_the_problem() -> None:
    before = fleet([400, 400])
    after = with_slower(before, {"d1": Slower(2.0, {("net", 3, 4): 3.0})})
    assert [device.type for device in after.device] == ["board", "board/d1"]
    assert after.model[0].seconds == {"board": [0.01] * 4, "board/d1": [0.02, 0.02, 0.02, 0.03]}
    assert with_slower(before, {"d1": NORMAL}) is before
