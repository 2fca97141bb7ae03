"""The promises, under random loads and faults: every admitted work ends exactly once, and nothing outgrows its bound.

``run_seed`` checks, at every event: one segment in the air per device; a lower class is never started before a
queued higher one; no tensor without a grant; queues, parked requests and backups within their bounds.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.faults import run_seed

# Seeds that once broke something: 75 and 79 (a work that came back by another way), kept for ever.
SEEDS = [*range(25), 75, 79, 151, 166]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_work_ends_exactly_once_whatever_fails(seed: int) -> None:
    run_seed(seed)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(1000, 10**9))
def test_every_work_ends_exactly_once_for_seeds_nobody_chose(seed: int) -> None:
    run_seed(seed)


def test_the_same_seed_is_the_same_run() -> None:
    first, second = run_seed(5), run_seed(5)
    assert first.computed == second.computed
    assert [r.ended_at for r in first.records.values()] == [r.ended_at for r in second.records.values()]
