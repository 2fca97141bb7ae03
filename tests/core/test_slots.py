"""Slots under an allocation that changes its mind, and engines that answer late."""

from typing import List, Sequence

import msgspec

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.allocation import SlotState
from pamdi.core.limits import Limits
from tests.core.lone import UNIT_S, Lone, key, results, sent, tensor, told
from tests.core.world import segment


def orders(said: Sequence[ins.AnyInstruction]) -> List[str]:
    named = [(type(i).__name__, i.segment.first) for i in said if isinstance(i, (ins.Load, ins.Unload))]
    return [f"{name} {first}" for name, first in named]


def states(stage: Lone) -> List[str]:
    return [f"{s.first} {s.state}" for s in stage.device.slots.state().segments]


def test_a_segment_dropped_while_it_unloads_for_another_engine_does_not_come_back() -> None:
    stage = Lone(units=(0,))
    assert orders(stage.allocate([0], digest="other")) == ["Unload 0"]
    stage.allocate([])
    assert orders(stage.feed(ev.EngineUnloaded(segment(0, 1)))) == [] and states(stage) == []


def test_another_engine_for_the_same_units_is_loaded_when_the_old_one_has_gone() -> None:
    stage = Lone(units=(0,))
    stage.allocate([0], digest="other")
    said = stage.feed(ev.EngineUnloaded(segment(0, 1)))
    assert [i.digest for i in said if isinstance(i, ins.Load)] == ["other"]


def test_another_engine_named_while_the_first_still_loads_replaces_it_once_it_has_loaded() -> None:
    stage = Lone(units=())
    stage.allocate([0], load=False)
    assert orders(stage.allocate([0], digest="other")) == []
    assert orders(stage.feed(ev.EngineLoaded(segment(0, 1)))) == ["Unload 0"]
    assert orders(stage.feed(ev.EngineUnloaded(segment(0, 1)))) == ["Load 0"]


def test_a_broken_slot_says_why_and_is_tried_again_only_with_another_engine() -> None:
    stage = Lone(units=())
    stage.allocate([0], load=False)
    stage.feed(ev.EngineFailed(segment(0, 1), "version tag"))
    assert stage.device.slots.state().segments == (SlotState("net", 0, 1, "broken", "version tag"),)
    assert orders(stage.allocate([0], load=False)) == []
    assert orders(stage.allocate([0], digest="other", load=False)) == ["Load 0"]


def test_what_an_engine_says_unasked_changes_nothing_and_is_counted() -> None:
    stage = Lone(units=(0,))
    for event in (
        ev.EngineLoaded(segment(0, 1)),
        ev.EngineUnloaded(segment(2, 3)),
        ev.EngineFailed(segment(0, 1), "x"),
    ):
        stage.feed(event)
    assert states(stage) == ["0 ready"] and stage.counters["engine_events_refused"] == 3


def test_a_draining_segment_refuses_new_works_finishes_a_short_queue_and_then_unloads() -> None:
    stage = Lone(units=(0,), head="d1")
    stage.offers("d2", 0, 1)
    for id in ("a", "b"):
        stage.receive("d1", tensor(key(id)))
    assert orders(stage.allocate([])) == [] and stage.place(key("b")) == "queued"
    assert told(stage.receive("d1", ms.Rtc(key("c"), "net", 1.0, 1, 0.1))) == ["d1 Refusal"]
    stage.infer()
    assert stage.running == key("b")
    assert orders(stage.infer()) == ["Unload 0"]


def test_a_draining_segment_hands_a_long_queue_on() -> None:
    stage = Lone(units=(0,), head="d1", limits=Limits(drain_short_s=UNIT_S / 2))
    stage.offers("d2", 0, 1)
    for id in ("a", "b"):
        stage.receive("d1", tensor(key(id)))
    assert [m.key for _, m in sent(stage.allocate([]), ms.Rtc)] == [key("b")]  # type: ignore[union-attr]


def test_works_carry_boundaries_not_epochs() -> None:
    stage = Lone(units=(0,), head="d1")
    stage.allocate([0])
    assert told(stage.receive("d1", tensor(key("a")))) == ["d1 Taken"]  # sent under whatever epoch its sender obeys


def test_an_allocation_with_a_policy_that_we_do_not_know_is_ignored_and_said() -> None:
    stage = Lone()
    stage.epoch += 1
    present = stage.device.context.allocation
    assert present is not None

    stage.feed(ev.AllocationReceived(msgspec.structs.replace(present, epoch=99, policy="fifo", segments=())))
    assert stage.device.context.allocation == present and stage.counters["allocations_unusable"] == 1
    assert results(stage.submit("a")) == ["admitted"]
