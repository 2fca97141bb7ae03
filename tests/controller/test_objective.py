"""J against a second evaluation from the document alone."""

import math

import pytest

from pamdi.controller.fleet import DeviceEntry, Fleet, LinkEntry, ModelEntry, SourceEntry
from pamdi.controller.objective import classes, evaluate
from pamdi.core.allocation import Route, RouteVisit
from tests.controller.plain_objective import plain_objective
from tests.controller.random_fleets import random_fleet, random_routes, with_merged


def lighter(fleet: Fleet, by: float) -> Fleet:
    source = [SourceEntry(s.id, s.model, s.device, s.gamma, s.alpha, s.rate_hz * by) for s in fleet.source]
    return Fleet(fleet.device, fleet.link, fleet.mesh, fleet.model, source, fleet.loss_penalty_s)


def test_two_evaluations_agree_on_hundreds_of_random_fleets() -> None:
    finite = 0
    for seed in range(400):
        fleet = lighter(random_fleet(seed, 2 + seed % 4, 1 + seed % 3, 2 + seed % 4), 0.3)
        routes = random_routes(fleet, seed)
        ours, plain = evaluate(fleet, routes).objective, plain_objective(fleet, routes)
        if math.isinf(plain):
            assert math.isinf(ours), seed
        else:
            finite += 1
            assert ours == pytest.approx(plain, rel=1e-12), seed
    assert finite > 250


def test_two_evaluations_agree_where_merged_segments_have_seconds_of_their_own() -> None:
    finite, different = 0, 0
    for seed in range(100):
        plain_fleet = lighter(random_fleet(seed, 2 + seed % 4, 1 + seed % 3, 2 + seed % 4), 0.3)
        fleet = with_merged(plain_fleet, seed)
        routes = random_routes(fleet, seed)
        ours, plain = evaluate(fleet, routes).objective, plain_objective(fleet, routes)
        if math.isfinite(plain):
            finite += 1
            assert ours == pytest.approx(plain, rel=1e-12), seed
            different += ours != evaluate(plain_fleet, routes).objective
    assert finite > 60
    assert different > 20


def test_the_formula_by_hand_for_two_classes_on_one_device() -> None:
    """Two pieces of 0.1 s each at 2 Hz (urgent) and one of 0.3 s at 1 Hz on the same device."""
    board = DeviceEntry("a", "t", 10)
    two = ModelEntry("two", ["u", "v"], [0, 0, 0], [1, 1], {"t": [0.1, 0.1]})
    one = ModelEntry("one", ["u"], [0, 0], [1], {"t": [0.3]})
    sources = [SourceEntry("urgent", "two", "a", 5.0, 1.0, 2.0), SourceEntry("normal", "one", "a", 1.0, 1.0, 1.0)]
    routes = {
        "urgent": [Route(1.0, 0.0, (RouteVisit(0, 1, "a"), RouteVisit(1, 2, "a")))],
        "normal": [Route(1.0, 0.0, (RouteVisit(0, 1, "a"),))],
    }
    cost = evaluate(Fleet([board], [], [], [two, one], sources), routes)
    urgent = 0.5 * (2 * 0.2**2 + 1 * 0.3**2) / (1 - 0.4) + 0.2
    normal = 0.5 * (2 * 0.2**2 + 1 * 0.3**2) / ((1 - 0.4) * (1 - 0.7)) + 0.3
    assert cost.latency_s == pytest.approx({"urgent": urgent, "normal": normal}, rel=1e-13)
    assert cost.objective == pytest.approx(5 * 2 * urgent + 1 * 1 * normal, rel=1e-13)


def test_classes_are_the_same_to_twelve_digits() -> None:
    levels = [1.0, 1.0 + 1e-13, 1.0 + 1e-10, 3.0]
    sources = [SourceEntry(f"s{n}", "m", "d", gamma=g) for n, g in enumerate(levels)]
    assert classes(sources) == {"s0": 3, "s1": 3, "s2": 2, "s3": 1}


def test_a_path_is_the_shortest_then_the_first_by_name() -> None:
    boards = [DeviceEntry(id, "t", 10) for id in ("a", "b", "c", "d")]
    ends = (("a", "c"), ("a", "b"), ("c", "d"), ("b", "d"))
    links = [LinkEntry(a, b, 1e6, delay_s=0.1 * n) for n, (a, b) in enumerate(ends, start=1)]
    model = ModelEntry("m", ["u"], [1000, 0], [1], {"t": [0.1]})
    source = SourceEntry("s", "m", "a", rate_hz=1e-9)
    cost = evaluate(Fleet(boards, links, [], [model], [source]), {"s": [Route(1.0, 0.0, (RouteVisit(0, 1, "d"),))]})
    through_b = 2 * (0.2 + 0.4)
    assert cost.latency_s["s"] == pytest.approx(0.1 + 2 * 0.001 + through_b, rel=1e-6)
