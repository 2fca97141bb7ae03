"""``pamdi status`` for people: few words for what each device holds, and which sources nobody serves."""

from typing import Any, Dict, List

from pamdi.cli.status import lines


def slot(first: int, stop: int, state: str = "ready", model: str = "net", reason: str = "") -> Dict[str, Any]:
    return {"model": model, "first": first, "stop": stop, "state": state, "reason": reason}


def device(state: str, *segments: Dict[str, Any]) -> Dict[str, Any]:
    return {"state": state, "type": "orin-nano", "address": "10.0.0.1:7420", "epoch": 3, "segments": list(segments),
            "queue_s": {}, "links": {}}  # fmt: skip


def shown(devices: Dict[str, Any], *sources: str) -> List[str]:
    """``sources``: heads; the source at d0 is s0."""
    at = {head.replace("d", "s"): {"model": "net", "device": head, "gamma": 2.0} for head in sources}
    return lines({"controller": "online", "epoch": 3, "devices": devices, "sources": at})


def test_segments_that_follow_one_another_are_one_run_and_what_is_not_ready_is_told_apart() -> None:
    held = [slot(4, 5), slot(0, 1), slot(1, 2), slot(2, 3, "broken", reason="file altered"), slot(0, 2, model="other")]
    assert shown({"d0": device("online", *held)}) == [
        "controller online, epoch 3",
        "device d0: online, orin-nano at 10.0.0.1:7420, epoch 3",
        "  ready: net[0:2] in 2 segments, net[4:5], other[0:2]",
        "  net[2:3] broken file altered",
        "  queue: nothing waits",
    ]


def test_a_source_whose_device_is_away_says_so() -> None:
    devices = {"d0": device("online"), "d1": device("stopped", slot(0, 1))}
    assert shown(devices, "d0", "d1", "d2")[-4:] == [
        "device d1: stopped, orin-nano at 10.0.0.1:7420, epoch 3",  # what it held is history
        "source s0: net, gamma 2, at d0",
        "source s1: net, gamma 2, at d1, which is stopped: it takes no works until it is back",
        "source s2: net, gamma 2, at d2, which is unknown: it takes no works until it is back",
    ]


def test_a_broker_without_a_fleet_says_so() -> None:
    assert shown({})[-1] == "no device has said anything on this broker yet"
