"""A server's cost and its slope."""

import random
from typing import List

import pytest

from pamdi.controller.solver.servers import Flow, Sums, cost, insert, load_of, price, scaled


def job(rng: random.Random) -> Sums:
    pieces = [rng.uniform(0.01, 0.2) for _ in range(rng.randint(1, 3))]
    total, last = sum(pieces), pieces[-1]
    return (1.0, total - last, last, total * total, sum(p * p for p in pieces), total)


def flows(rng: random.Random) -> List[Flow]:
    found: List[Flow] = []
    for _ in range(rng.randint(1, 4)):
        found = insert(found, rng.randint(1, 3), scaled(job(rng), rng.uniform(0.05, 0.4), rng.uniform(1, 10)))
    return found


@pytest.mark.parametrize("edge", [1e-4, 0.9])
def test_a_price_is_the_slope_of_the_cost(edge: float) -> None:
    for seed in range(200):
        rng = random.Random(seed)
        here, one, klass, gamma, step = flows(rng), job(rng), rng.randint(1, 3), rng.uniform(1, 10), 1e-7
        p = price(here, klass, edge)
        slope = gamma * (p.wait_s + one[1] * p.stretch + one[2])
        slope += p.square * one[3] + p.fine * one[4] + p.load * one[5]
        after = cost(insert(here, klass, scaled(one, step, gamma)), edge)
        if load_of(here) < 0.9 or edge > 0.5:
            assert (after - cost(here, edge)) / step == pytest.approx(slope, rel=2e-3), seed


def test_flows_harm_each_other_at_least_pair_by_pair() -> None:
    """What the bound of ``exact`` rests on."""
    for seed in range(300):
        rng = random.Random(seed)
        three = [(rng.randint(1, 3), scaled(job(rng), rng.uniform(0.05, 0.5), rng.uniform(1, 10))) for _ in range(3)]

        def of(*which: int, three: List[Flow] = three) -> float:
            return cost(sorted((three[n] for n in which), key=lambda flow: flow[0]), 0.0)

        pairs = sum(of(a, b) - of(a) - of(b) for a, b in ((0, 1), (0, 2), (1, 2)))
        assert of(0, 1, 2) >= (of(0) + of(1) + of(2) + pairs) * (1 - 1e-12)
