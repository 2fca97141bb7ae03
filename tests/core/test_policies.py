"""The paper's rule, and what each policy does differently."""

import random
from typing import Dict, Tuple

import pytest

from pamdi.core.allocation import Route, RouteVisit
from pamdi.core.errors import ConfigError
from pamdi.core.policy import POLICIES, Candidate, Waiting, policy_named

HERE = Candidate("d0", 0.0, 0.025, 0.100)
THERE = Candidate("d1", 0.030, 0.025, 0.0)


def work(urgency: float = 1.0, born: float = 0.0, boundary: int = 0, continuing: bool = False) -> Waiting:
    return Waiting("yard", "w1", "d0", boundary, urgency, born, continuing)


def test_the_worker_with_the_smallest_ratio_is_picked() -> None:
    assert policy_named("pa-mdi").pick(work(), [HERE, THERE], 1.0) == THERE


def test_the_ratio_is_the_papers() -> None:
    drawn = random.Random(1)
    for _ in range(100):
        workers = [Candidate(f"d{i}", drawn.random(), drawn.random(), drawn.random()) for i in range(5)]
        gamma_alpha, age_s = drawn.choice([1.0, 10.0]), drawn.random()
        ratios = {(c.transfer_s + age_s + c.compute_s + c.backlog_s) / gamma_alpha: c for c in workers}
        assert policy_named("pa-mdi").pick(work(gamma_alpha, -age_s), workers, 0.0) == ratios[min(ratios)]


def test_a_tie_stays_here() -> None:
    same = Candidate("d1", 0.0, 0.025, 0.100)
    assert policy_named("pa-mdi").pick(work(), [HERE, same], 1.0) == HERE


def test_pa_mdi_ranks_by_urgency_then_continuation_then_age() -> None:
    rank = policy_named("pa-mdi").rank
    order = [work(10.0, 5.0), work(1.0, 4.0, continuing=True), work(1.0, 2.0), work(1.0, 3.0)]
    shuffled = [order[2], order[0], order[3], order[1]]
    assert sorted(shuffled, key=lambda w: rank(w, 9.0)) == order


def test_the_pairwise_reading_lets_old_work_starve() -> None:
    rank = policy_named("pa-mdi-pairwise").rank
    old, young = work(1.0, 0.0), work(1.0, 8.0)
    assert rank(young, 9.0) < rank(old, 9.0)
    assert rank(work(10.0, 0.0), 9.0) < rank(young, 9.0)  # 9 / 10 before 1 / 1


@pytest.mark.parametrize("name", ["ms-mdi", "ar-mdi", "ddi"])
def test_policies_without_priorities_see_one_class(name: str) -> None:
    policy = policy_named(name)
    assert policy.urgency(10.0) == policy.urgency(1.0)


def test_local_stays_at_the_head_and_ddi_stays_where_it_began() -> None:
    assert policy_named("local").may_take(work(), "d0", "d0", {})
    assert not policy_named("local").may_take(work(), "d1", "d0", {})
    assert policy_named("ddi").may_take(work(boundary=0), "d1", "d0", {})
    assert not policy_named("ddi").may_take(work(boundary=1), "d1", "d0", {})


def test_ar_mdi_follows_its_route_and_splits_by_fraction() -> None:
    routes: Dict[str, Tuple[Route, ...]] = {
        "yard": (
            Route(0.5, 0.0, (RouteVisit(0, 2, "d0"), RouteVisit(2, 4, "d1"))),
            Route(0.5, 0.0, (RouteVisit(0, 4, "d2"),)),
        )
    }
    policy = policy_named("ar-mdi")
    taken = {"d0": 0, "d1": 0, "d2": 0}
    for i in range(1000):
        here = Waiting("yard", f"w{i}", "d0", 0, 1.0, 0.0, False)
        able = [device for device in taken if policy.may_take(here, device, "d0", routes)]
        assert len(able) == 1
        taken[able[0]] += 1
    assert taken["d1"] == 0 and 400 < taken["d0"] < 600


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="pa-mdi, as-if-alone, pa-mdi-pairwise, ms-mdi, ar-mdi, local, ddi"):
        policy_named("fifo")
    assert all(policy.name == name for name, policy in POLICIES.items())
