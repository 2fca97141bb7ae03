"""Short plays: what the controller does when something happens, and what it leaves alone."""

import msgspec

from pamdi.controller.rollout import Rollout
from pamdi.core.allocation import AllocationState, SlotState
from tests.controller.fleets import gate, net, wanted, yard
from tests.controller.pretend import PretendDevice, PretendFleet, asked

ALL = frozenset(("net", u) for u in range(4))


def settled(*memory: int) -> PretendFleet:
    fleet = PretendFleet(wanted(), list(memory))
    fleet.start()
    fleet.settle()
    return fleet


def test_facts_that_come_together_lead_to_one_epoch() -> None:
    fleet = settled(400, 400, 400)
    assert fleet.epochs == [1]
    assert fleet.ready("d0") | fleet.ready("d1") | fleet.ready("d2") == ALL


def test_a_device_that_joins_gets_its_part_and_the_others_keep_theirs() -> None:
    fleet = PretendFleet(wanted(), [400, 400, 400])
    fleet.start("d0", "d1")
    fleet.settle()
    before = (fleet.ready("d0"), fleet.ready("d1"))
    fleet.start("d2")
    fleet.settle()
    assert fleet.ready("d2")
    assert (fleet.ready("d0"), fleet.ready("d1")) == before


def test_a_restart_within_gone_after_moves_nothing() -> None:
    fleet = settled(400, 400, 400)
    held = {id: asked(document) for id, document in fleet.retained.items()}
    fleet.kill("d1")
    fleet.tick(5.0)
    fleet.start("d1")
    fleet.settle()
    assert {id: asked(document) for id, document in fleet.retained.items()} == held


def test_what_a_gone_device_alone_held_is_loaded_elsewhere() -> None:
    fleet = settled(200, 200, 400)
    fleet.kill("d2")
    fleet.tick(fleet.rollout.wanted.gone_after_s + 1)
    fleet.tick(1.0)
    fleet.settle()
    assert fleet.ready("d0") | fleet.ready("d1") == ALL


def test_a_drained_device_ends_empty_and_nothing_was_ever_missing() -> None:
    fleet = settled(400, 400, 400)
    assert fleet.rollout.drain("d1", True, fleet.now) is not None
    fleet.settle()
    assert fleet.ready("d1") == frozenset()
    fleet.rollout.drain("d1", False, fleet.now)
    fleet.settle()
    assert fleet.ready("d1")
    assert fleet.gaps == 0


def test_the_new_is_ready_before_the_old_goes() -> None:
    """d1 alone holds two units; to drain it, another must have them ready first, in an epoch of its own."""
    fleet = PretendFleet(wanted([gate()]), [200, 200])
    fleet.start()
    fleet.settle()
    fleet.devices["d2"] = PretendDevice("d2", 200)
    fleet.rollout.drain("d1", True, fleet.now)
    fleet.start("d2")
    first = len(fleet.history)
    fleet.settle()
    moved = asked(fleet.retained["d2"])
    loads, lets_go = fleet.history[first], fleet.history[-1]
    assert len(fleet.history) >= first + 2
    assert moved <= loads["d2"] and moved & loads["d1"]
    assert lets_go["d1"] == frozenset()


def test_a_broken_segment_is_placed_on_another_device_and_tried_again_there_later() -> None:
    fleet = PretendFleet(wanted([gate()]), [400, 400])
    fleet.devices["d0"].cursed.add(("net", 2))
    fleet.start()
    fleet.settle()
    assert ("net", 2) in fleet.ready("d1") and ("net", 2) not in fleet.ready("d0")
    assert fleet.rollout.devices["d0"].broken[("net", 2)].reason == "cursed"
    loads = fleet.devices["d0"].loads
    fleet.tick(10.0)
    fleet.settle()
    assert fleet.devices["d0"].loads == loads  # not again at once
    fleet.devices["d0"].cursed.clear()
    fleet.tick(fleet.rollout.wanted.retry_after_s + 1)
    fleet.settle()
    assert ("net", 2) in fleet.ready("d0")


def test_a_segment_that_is_broken_everywhere_refuses_its_source_and_says_where() -> None:
    fleet = PretendFleet(wanted([gate(), yard("d1", "other")], [net(), net(2, "other")]), [800, 800])
    for device in fleet.devices.values():
        device.cursed.add(("other", 1))
    fleet.start()
    fleet.settle()
    assert "other[1:2] cannot be loaded anywhere: d0, d1" in fleet.rollout.refused["yard"]
    assert "gate" not in fleet.rollout.refused


def test_a_source_that_does_not_fit_is_refused_by_name_until_memory_joins() -> None:
    fleet = PretendFleet(wanted([gate(), yard("d0", "other")], [net(), net(3, "other")]), [400, 400])
    fleet.start("d0")
    fleet.settle()
    assert "bytes" in fleet.rollout.refused["yard"]
    assert fleet.rollout.head_of("yard")[1] is False
    fleet.start("d1")
    fleet.settle()
    assert fleet.rollout.refused == {} and fleet.rollout.head_of("yard")[1] is True


def test_two_full_devices_swap_through_a_gap_and_say_so() -> None:
    """No room for a second copy anywhere: the one way there leads through a moment without."""
    fleet = PretendFleet(wanted([gate()], [net(2)]), [100, 100])
    fleet.start()
    fleet.settle()
    rollout = fleet.rollout
    rollout._target = {"d0": asked(fleet.retained["d1"]), "d1": asked(fleet.retained["d0"])}
    rollout._changed = True
    fleet.settle()
    assert fleet.gaps == 1
    assert fleet.ready("d0") | fleet.ready("d1") == {("net", 0), ("net", 1)}


def test_another_life_of_the_controller_goes_on_with_its_epoch_and_moves_nothing() -> None:
    fleet = settled(400, 400, 400)
    epoch, loads = fleet.rollout.epoch, fleet.loads()
    fleet.restart_controller()
    fleet.settle()
    assert fleet.loads() == loads
    assert fleet.rollout.epoch > epoch  # what it says anew is newer than all that was said


def test_a_device_that_knows_a_newer_epoch_makes_the_controller_go_beyond_it() -> None:
    fleet = settled(400, 400)
    fleet.rollout.heard_allocation("d0", AllocationState(70, ()), fleet.now)
    fleet.tick()
    assert fleet.rollout.epoch > 70


def test_a_report_that_is_older_than_the_asking_counts_for_nothing() -> None:
    fleet = PretendFleet(wanted([gate()]), [400])
    fleet.start()
    fleet.tick(1.0)
    stale = AllocationState(0, tuple(SlotState("net", u, u + 1, "ready", "") for u in range(4)))
    fleet.rollout.heard_allocation("d0", stale, fleet.now)
    assert not fleet.rollout.settled()


def test_the_ghost_of_an_old_fleet_gets_no_part() -> None:
    rollout = Rollout(wanted())
    rollout.heard_state("ghost", "offline", 0.0)
    assert rollout.tick(10.0) == {}
    assert rollout.plan is None


def test_drain_of_a_stranger_is_refused() -> None:
    assert settled(400, 400).rollout.drain("nobody", True, 0.0) is None


def test_an_engine_file_that_the_store_lacks_is_not_asked_for() -> None:
    fleet = PretendFleet(wanted([gate()], digests={("net", u): f"sum{u}" for u in range(4)}), [400, 400])
    fleet.start()
    has = {f"{u}:{u + 1}": f"sum{u}" for u in range(3)}  # all but the last
    for id, models in (("d0", {"net": has}), ("d1", {"net": {**has, "3:4": "sum3"}})):
        info = fleet.devices[id].info()
        fleet.rollout.heard_info(id, msgspec.structs.replace(info, models=models), fleet.now)
    fleet.settle()
    assert ("net", 3) in fleet.ready("d1") and ("net", 3) not in fleet.ready("d0")
