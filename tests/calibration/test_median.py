"""The median's interval is the one of order statistics, and measuring stops when it is narrow, or at the limit."""

import random
from typing import Callable

from pamdi.calibration.median import Median, Rule, median_of, rank_of, samples_of


def test_ranks_are_those_of_the_published_tables() -> None:
    # Conover, Practical Nonparametric Statistics, and any table of sign-test critical values: k for 95 %, two-sided.
    expected = {5: 0, 6: 1, 8: 1, 9: 2, 12: 3, 20: 6, 30: 10, 50: 18, 100: 40}
    assert {count: rank_of(count, 0.95) for count in expected} == expected


def test_the_approximation_for_many_samples_is_never_narrower_than_the_exact_rank() -> None:
    assert rank_of(1000, 0.95) == 469
    assert [rank_of(1001, 0.95) <= 470, rank_of(10_000, 0.95) in range(4899, 4903)] == [True, True]


def test_the_interval_holds_the_true_median_about_as_often_as_it_says() -> None:
    dice = random.Random(7)
    held = 0
    for _ in range(2000):
        found = median_of([dice.expovariate(1.0) for _ in range(40)])
        held += found.low_s <= 0.6931 <= found.high_s
    assert 1880 <= held <= 1960  # 95 % to 98 %: the rank is whole, so that the interval is a little wider than asked


def test_the_median_of_few_is_in_the_middle_and_its_interval_is_all_of_them() -> None:
    assert median_of([3.0, 1.0, 2.0]) == Median(2.0, 1.0, 3.0, 3)
    assert median_of([4.0, 1.0]) == Median(2.5, 1.0, 4.0, 2)


def played(durations: Callable[[int], float], rule: Rule) -> Median:
    now, runs = [0.0], [0]

    def once() -> None:
        now[0] += durations(runs[0])
        runs[0] += 1

    return median_of(samples_of(once, rule, lambda: now[0]))


def test_a_quiet_board_needs_few_runs_and_the_slow_first_ones_do_not_count() -> None:
    found = played(lambda number: 5.0 if number < 3 else 0.001, Rule(warm_runs=3, warm_s=0.0))
    assert (round(found.seconds, 9), found.samples) == (0.001, 12)


def test_a_few_disturbed_runs_do_not_move_it() -> None:
    found = played(lambda number: 0.1 if number % 10 == 0 else 0.001, Rule(warm_runs=0, warm_s=0.0))
    assert round(found.seconds, 9) == 0.001


def test_a_board_that_never_settles_is_given_up_at_the_limit() -> None:
    dice = random.Random(1)
    found = played(lambda number: dice.choice([0.001, 0.002]), Rule(width=0.01, seconds_max=0.5, warm_runs=0))
    assert found.width > 0.01 and 250 < found.samples < 500


def test_a_slow_segment_is_measured_once_at_least() -> None:
    assert played(lambda number: 60.0, Rule(seconds_max=5.0, warm_runs=1, warm_s=0.0)).samples == 1
