"""Stations that take turns on a channel: who waits for whom, to the frame."""

from typing import Dict, List, Tuple

import pytest
from msgspec.structs import replace

from pamdi.simulator.heap import Heap
from pamdi.simulator.random_scenario import random_scenario
from pamdi.simulator.search import try_scenario
from pamdi.simulator.server import FRAME_BYTES, Line, Transfer
from pamdi.simulator.turns import Turns

FRAME_S = 1.0


def left_at(transfers: List[Tuple[str, str, int, float]], gone: str = "") -> Tuple[Dict[str, float], Turns]:
    """(station, name, frames, urgency), all put at 0, one frame a second. ``gone``: the name of a dead one."""
    heap = Heap()
    medium = Turns(heap)
    left: Dict[str, float] = {}

    def leaves(transfer: Transfer) -> None:
        left[transfer.parcel] = heap.now

    for station, name, frames, urgency in transfers:
        line = Line(station, "z", FRAME_BYTES / FRAME_S, 0.0, medium)
        medium.put(Transfer(line, frames * FRAME_BYTES, urgency, leaves, lambda parcel: parcel != gone, name))
    heap.run(1e9, lambda: False)
    return left, medium


def test_an_urgent_tensor_waits_for_the_turns_of_other_stations_and_overtakes_those_of_its_own() -> None:
    left, medium = left_at([("a", "normal", 3, 1.0), ("b", "other", 3, 1.0), ("a", "urgent", 2, 10.0)])
    assert left == {"urgent": 5.0, "other": 6.0, "normal": 8.0}  # a: normal, b, a: urgent, b, a: urgent, b, a, a
    assert medium.busy_s == pytest.approx(8.0)


def test_a_message_without_a_payload_goes_at_the_end_of_the_frame() -> None:
    heap = Heap()
    medium = Turns(heap)
    line = Line("a", "z", FRAME_BYTES / FRAME_S, 0.0, medium)
    done: List[float] = []
    medium.put(Transfer(line, 2 * FRAME_BYTES, 1.0, lambda t: done.append(heap.now), lambda _: True, ""))
    assert medium.say(line, FRAME_BYTES // 4) == 1.25
    heap.run(1e9, lambda: False)
    assert done == [2.25]


def test_what_belongs_to_a_dead_connection_is_left_out() -> None:
    assert left_at([("a", "x", 2, 1.0), ("b", "y", 2, 1.0), ("a", "z", 1, 1.0)], gone="y")[0] == {"x": 2.0, "z": 3.0}


@pytest.mark.parametrize("seed", range(1, 21))
def test_every_promise_is_kept_while_stations_take_turns(seed: int) -> None:
    scenario = random_scenario(seed)
    media = [replace(mesh, medium="air") for mesh in scenario.mesh]
    links = [replace(link, medium="air") for link in scenario.link]
    turns = replace(scenario, mesh=media, link=links, run=replace(scenario.run, stations="turns"))
    assert try_scenario(turns, seed) is None
