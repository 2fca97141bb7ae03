"""Whatever happens in whatever order: no publication lets go of what nobody else has, and the fleet settles."""

from typing import Iterator, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pamdi.controller import narrow
from pamdi.controller.seen import RETRY_S_MAX
from pamdi.core.allocation import SMALL_FLEET_DEVICES_MAX
from tests.controller.fleets import UNIT_BYTES, gate, net, wanted, yard
from tests.controller.pretend import PretendFleet

DEVICES = 4
Move = Tuple[str, int, int]

# Most of a story is the fleet's own work: without it nothing is ever ready, and nothing could be lost.
moves = st.lists(
    st.tuples(
        st.sampled_from(
            ["all", "all", "all", "read", "work", "tick", "start", "start", "kill", "stop", "drain", "drain", "undrain",
             "curse", "bless", "wait", "reallocate", "sources", "sources", "restart"]
        ),
        st.integers(0, DEVICES - 1),
        st.integers(0, 7),
    ),
    min_size=30,
    max_size=80,
)  # fmt: skip
# One to four units per device, seven units to place: from hopeless to a copy here and there.
memories = st.lists(st.integers(1, 4).map(lambda units: units * UNIT_BYTES), min_size=DEVICES, max_size=DEVICES)
SOURCES = [
    [gate(), yard()],
    [gate()],
    [yard("d2")],
    [gate(), yard("d1", "other")],
    [yard("d1", "other")],
]


@pytest.fixture(autouse=True, scope="module", params=[SMALL_FLEET_DEVICES_MAX, 0], ids=["all", "concerned"])
def told(request: pytest.FixtureRequest) -> Iterator[None]:
    """An epoch is told to everybody, as in a small fleet, or to whom it concerns."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(narrow, "SMALL_FLEET_DEVICES_MAX", request.param)
        yield


def play(fleet: PretendFleet, story: List[Move]) -> None:
    models = [net(), net(3, "other")]
    for move, device, choice in story:
        id = f"d{device}"
        unit = ("net", choice % 4)
        if move in ("start", "kill", "stop", "read", "work"):
            getattr(fleet, move)(id)
        elif move == "all":
            fleet.everybody()
        elif move in ("drain", "undrain"):
            fleet.rollout.drain(id, move == "drain", fleet.now)
        elif move == "curse":
            fleet.devices[id].cursed.add(unit)
        elif move == "bless":
            fleet.devices[id].cursed.clear()
        elif move == "reallocate":
            fleet.rollout.reallocate(fleet.now)
        elif move == "sources":
            fleet.rollout.configure(wanted(SOURCES[choice % len(SOURCES)], models), fleet.now)
        elif move == "restart":
            fleet.restart_controller()
        fleet.tick(5.0 if move == "wait" else 0.3)


@settings(max_examples=300, deadline=None)
@given(memories, moves)
def test_no_publication_lets_go_of_what_nobody_else_has(memory: List[int], story: List[Move]) -> None:
    fleet = PretendFleet(wanted(models=[net(), net(3, "other")]), memory)
    fleet.start()
    fleet.settle()
    play(fleet, story)
    assert fleet.epochs == sorted(set(fleet.epochs))


@settings(max_examples=150, deadline=None)
@given(memories, moves)
def test_when_the_noise_ends_every_device_holds_its_part_and_nothing_moves_any_more(
    memory: List[int], story: List[Move]
) -> None:
    fleet = PretendFleet(wanted(models=[net(), net(3, "other")]), memory)
    play(fleet, story)
    for device in fleet.devices.values():
        device.cursed.clear()
    fleet.start()
    fleet.settle()
    fleet.tick(RETRY_S_MAX)  # what broke is tried again
    fleet.settle()
    loads, epoch = fleet.loads(), fleet.rollout.epoch
    fleet.rollout.configure(fleet.rollout.wanted, fleet.now)
    fleet.settle()
    assert (fleet.loads(), fleet.rollout.epoch) == (loads, epoch)
