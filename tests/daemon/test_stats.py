"""What the device counts stays bounded, whatever priorities its clients choose."""

import json

import msgspec
import pytest

from pamdi.core.messages import AnyMessage, Backlog, Beacon
from pamdi.daemon.host import describe_host
from pamdi.daemon.stats import CLASSES_MAX, LATENCIES_MAX, Stats


def test_a_client_that_chooses_another_gamma_for_every_work_makes_nothing_grow() -> None:
    stats = Stats(describe_host())
    for number in range(10 * CLASSES_MAX):
        stats.ended(10.0, "answered", 0.1)
        stats.ended(1.0 + number / 1000, "answered", 0.1)
    assert len(stats._latencies) == CLASSES_MAX and len(stats._latencies[10.0]) == 10 * CLASSES_MAX
    for _ in range(2 * LATENCIES_MAX):
        stats.ended(10.0, "answered", 0.1)
    assert len(stats._latencies[10.0]) == LATENCIES_MAX


@pytest.mark.parametrize(("sensors", "hottest"), [({"cpu": 41.5, "gpu": 52.0}, 52.0), ({}, None)])
def test_a_beacon_says_how_hot_the_device_is_and_is_a_beacon_still(sensors: "dict[str, float]", hottest: float) -> None:
    stats = Stats(msgspec.structs.replace(describe_host(), temperatures_c=sensors))
    beacon = Beacon("d1", backlog=Backlog(running_s=0.5))
    said = stats.beacon(beacon)
    assert json.loads(said)["temperature_c"] == hottest
    assert msgspec.json.decode(said, type=AnyMessage) == beacon
