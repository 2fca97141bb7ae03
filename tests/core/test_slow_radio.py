"""Tensors of megabytes on a radio that all devices share: what a device waits for follows what it sees."""

from typing import List, Sequence

import pytest

from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.allocation import SourceSpec
from pamdi.core.limits import Limits
from pamdi.core.work import Key
from tests.core.lone import NBYTES, UNIT_S, Lone, key, rtc, sent, tensor, told
from tests.core.world import World
from tests.core.world_settings import Settings

LINK_S = NBYTES / 1e6 + 0.001  # a tensor's time on the stage's links, as they are calibrated
LIMITS = Limits()
PATIENT = SourceSpec("yard", "net", "d0", replay_after_s=1000.0)


def promised_s(said: Sequence[ins.AnyInstruction]) -> List[float]:
    return [message.for_s for _, message in sent(said, ms.Ctc) if isinstance(message, ms.Ctc)]


def asked(stage: Lone, of: Key) -> float:
    """For how long a promise is given to ``d1`` now."""
    said = promised_s(stage.receive("d1", rtc(of)))
    stage.receive("d1", ms.Withdrawn(of))
    return said[0]


def on_its_way(stage: Lone, id: str) -> None:
    """``d0`` sends ``id`` to ``d1``, which says nothing of it."""
    stage.offers("d1", 0)
    stage.submit(id)
    stage.receive("d1", ms.Ctc(key(id), 1.0))
    assert stage.place(key(id)) == "sent"


def test_twenty_works_of_two_megabytes_get_through_a_shared_radio_with_few_sent_twice() -> None:
    """Five devices with two of four units each, 20 Mb/s: a tensor alone takes 0.8 s, and several always wait."""
    held = {f"d{i}": [i % 4, (i + 1) % 4] for i in range(5)}
    world = World(Settings(5, unit_s=0.2, nbytes=2_000_000, residents=held, shared=True))
    world.run(0.3)
    for i in range(10):
        world.submit("gate", f"g{i}")
        world.submit("yard", f"y{i}")
    world.run(300.0)
    world.check_ends()
    assert {record.ends[0][0] for record in world.records.values()} == {"answered"}
    assert sum(world.carried.values()) <= 1.25 * len(world.carried)
    assert world.counters.get("works_replayed", 0) == 0


def test_a_promise_lasts_longer_once_tensors_come_late_and_shorter_again_when_they_do_not() -> None:
    stage = Lone(head="d1", limits=Limits(works_ahead_max=9))
    usual = asked(stage, key("a"))
    assert usual == pytest.approx(LIMITS.reservation_s + UNIT_S + 4 * LINK_S)
    stage.receive("d2", tensor(key("b")), transit_s=6.0 + LINK_S)
    assert asked(stage, key("a")) == pytest.approx(usual + 2 * 6.0)
    stage.receive("d2", tensor(key("c")), transit_s=LINK_S)
    assert asked(stage, key("a")) == pytest.approx(usual + 2 * 5.4)


def test_a_tensor_is_given_longer_once_another_was_taken_late() -> None:
    stage = Lone(units=(), sources=[PATIENT])
    on_its_way(stage, "a")
    stage.later(2.0 + LINK_S)
    stage.receive("d1", ms.Taken(key("a")))
    on_its_way(stage, "b")
    usual_s = LIMITS.resend_s + 2 * LINK_S
    assert told(stage.later(usual_s + 2 * 2.0 - 0.01), ms.Rtc) == []
    assert told(stage.later(0.02), ms.Rtc) == ["d1 Rtc"]


def test_a_tensor_of_which_nothing_is_heard_doubles_what_the_next_one_is_given_up_to_a_bound() -> None:
    stage = Lone(units=(), sources=[PATIENT])
    on_its_way(stage, "a")
    waited = []
    for _ in range(6):
        before = stage.now
        while stage.place(key("a")) == "sent":
            wake = stage.device.wake_at()
            assert wake is not None
            stage.later(wake - stage.now)
        waited.append(stage.now - before - LIMITS.resend_s - 2 * LINK_S)
        stage.receive("d1", ms.Ctc(key("a"), 1.0))
    assert waited == pytest.approx([0.0, 2 * 3.0, 2 * 6.0, 2 * 12.0, 2 * 24.0, 2 * LIMITS.lag_s_max])


def test_a_head_does_not_start_a_work_anew_while_it_is_on_its_own_link() -> None:
    stage = Lone(units=(), limits=Limits(resend_s=60.0))
    on_its_way(stage, "a")
    stage.later(30.0)
    assert stage.place(key("a")) == "sent" and "works_replayed" not in stage.counters
    assert told(stage.said, ms.Where) == []
