"""Small plays in the pretend world, one per promise of the protocol."""

from typing import List, Optional

import pytest

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.allocation import SourceSpec
from pamdi.core.limits import Limits
from pamdi.core.work import Key, Work, WorkId
from tests.core.world import World
from tests.core.world_settings import Record, Settings

UNIT_S = 0.025


def world(**changes: object) -> World:
    made = World(Settings(**changes), seed=1)  # type: ignore[arg-type]
    made.run(0.5)
    return made


def ends(w: World, source: str, id: str) -> List[str]:
    return [f"{status}:{reason}".rstrip(":") for status, reason, _ in w.records[WorkId(source, id)].ends]


def test_a_work_alone_takes_its_segments_and_little_more() -> None:
    w = world()
    w.submit("gate", "a")
    w.run(3.0)
    assert w.latencies("gate")[0] == pytest.approx(4 * UNIT_S, rel=0.1)
    assert [key.boundary for _, key in w.computed] == [0, 1, 2, 3]


def test_an_urgent_work_waits_for_at_most_one_segment_of_a_lower_class() -> None:
    w = world(devices=2, sources=[SourceSpec("gate", "net", "d0", gamma=10.0), SourceSpec("yard", "net", "d0")])
    for i in range(20):
        w.submit("yard", str(i))
    w.run(0.8)
    w.submit("gate", "urgent")
    w.run(20.0)
    w.check_ends()
    assert w.latencies("gate")[0] < 4 * UNIT_S + 1.1 * UNIT_S + 0.02


def test_the_same_id_again_gives_the_same_answer_and_computes_nothing_twice() -> None:
    w = world()
    w.submit("gate", "a")
    w.run(2.0)
    computed = len(w.computed)
    w.feed("d0", ev.Submitted(WorkId("gate", "a"), "digest-a", None, 1))
    assert ends(w, "gate", "a") == ["answered", "answered"] and len(w.computed) == computed


def test_an_id_with_another_input_is_refused() -> None:
    w = world()
    w.submit("gate", "a")
    w.run(2.0)
    said = w.devices["d0"].handle(ev.Submitted(WorkId("gate", "a"), "other", None, 1), w.now)
    results = [i for i in said if isinstance(i, ins.PublishResult)]
    assert [(r.status, r.reason) for r in results] == [("refused", "id_reused")]


def test_overload_is_refused_at_admission_and_admitted_works_are_never_the_victims() -> None:
    w = world(sources=[SourceSpec("gate", "net", "d0", queue_works_max=3)])
    refused = []
    for i in range(6):
        event = ev.Submitted(WorkId("gate", str(i)), f"digest-{i}", ("input", WorkId("gate", str(i)), 0), 20_000)
        w.records[event.work] = Record(w.now, "gate")
        for instruction in w.devices["d0"].handle(event, w.now):
            w._act("d0", instruction)
            if isinstance(instruction, ins.PublishResult) and instruction.status == "refused":
                refused.append((instruction.work.id, instruction.reason, instruction.retry_after_s is not None))
    assert refused == [("3", "overloaded", True), ("4", "overloaded", True), ("5", "overloaded", True)]
    w.run(5.0)
    assert [ends(w, "gate", str(i)) for i in range(3)] == [["answered"]] * 3


def test_a_deadline_ends_a_work_where_it_is() -> None:
    w = world()
    w.submit("gate", "late", deadline_s=0.06)
    w.run(3.0)
    assert ends(w, "gate", "late")[0] == "failed:deadline"
    assert len(w.computed) <= 3


def test_cancelling_ends_a_work_and_frees_what_was_kept() -> None:
    w = world()
    w.submit("gate", "a")
    w.run(0.53)
    w.cancel("gate", "a")
    w.run(3.0)
    assert ends(w, "gate", "a")[0] == "failed:cancelled"
    assert all(len(device.holdings) == 0 for device in w.devices.values())


def flooded(age_s_max: Optional[float]) -> World:
    """More urgent works than d0 can compute, for four seconds, and one normal work among them."""
    sources = [
        SourceSpec("gate", "net", "d0", gamma=10.0, queue_works_max=10_000),
        SourceSpec("yard", "net", "d0", age_s_max=age_s_max),
    ]
    w = world(devices=2, sources=sources, residents={"d0": [0, 1, 2, 3], "d1": []})
    for i in range(100):
        w.after(i * 0.04, lambda i=i: w.submit("gate", str(i)))  # type: ignore[misc]
    w.after(0.2, lambda: w.submit("yard", "old"))
    w.run(4.5)
    return w


def test_a_starved_work_is_lifted_one_class() -> None:
    assert 1.0 < flooded(age_s_max=1.0).latencies("yard")[0] < 2.5


def test_without_a_starvation_bound_priority_is_strict() -> None:
    assert flooded(age_s_max=None).latencies("yard") == []


def test_a_restarted_head_says_admitted_again_and_answers() -> None:
    w = world()
    for i in range(5):
        w.submit("gate", str(i))
    w.run(0.56)
    w.crash("d0")
    w.run(1.0)
    w.start("d0")
    w.run(30.0)
    w.check_ends()
    assert len(w.latencies("gate")) == 5


def test_a_late_tensor_is_refused_when_there_is_no_room_and_kept_by_its_sender() -> None:
    limits = Limits(works_ahead_max=1, queue_works_max=1)
    w = world(limits=limits)
    d2 = w.devices["d2"]

    def tensor(id: str) -> ev.Received:
        key = Key("yard", id, 0, 0, 0)
        payload = ("input", key.work, 0)
        return ev.Received("d1", ms.Tensor(Work(key, "net", "d1", 1.0, 0.0)), payload, 20_000)

    answers = []
    for id in ("a", "b", "c"):
        said = d2.handle(tensor(id), w.now)
        answers += [type(i.message).__name__ for i in said if isinstance(i, ins.Send) and i.peer == "d1"
                    and isinstance(i.message, (ms.Taken, ms.Refusal))]  # fmt: skip
    assert answers == ["Taken", "Taken", "Refusal"]  # one runs, one is queued, the third finds no room


def test_a_more_urgent_request_takes_over_an_unused_promise() -> None:
    limits = Limits(works_ahead_max=1, queue_works_max=1)
    w = world(limits=limits)
    d2 = w.devices["d2"]

    def rtc(peer: str, id: str, urgency: float) -> List[str]:
        said = d2.handle(ev.Received(peer, ms.Rtc(Key("s", id, 0, 0, 0), "net", urgency, 100, 0.025)), w.now)
        return [f"{i.peer}:{type(i.message).__name__}" for i in said if isinstance(i, ins.Send)
                and isinstance(i.message, (ms.Ctc, ms.Revoked, ms.Refusal))]  # fmt: skip

    assert rtc("d1", "normal", 1.0) == ["d1:Ctc"]
    assert rtc("d0", "urgent", 10.0) == ["d1:Revoked", "d0:Ctc"]


def test_reallocation_loses_nothing_and_drains_before_it_unloads() -> None:
    first = {"d0": [0, 1, 2, 3], "d1": [0, 1, 2, 3], "d2": []}
    w = world(residents=first)
    for i in range(30):
        w.after(i * 0.05, lambda i=i: w.submit("yard", str(i)))  # type: ignore[misc]
    everywhere = {d: [0, 1, 2, 3] for d in first}
    w.after(0.4, lambda: w.reallocate(everywhere))
    w.after(0.8, lambda: w.reallocate({"d0": [], "d1": [0, 1, 2, 3], "d2": [0, 1, 2, 3]}))
    w.run(20.0)
    w.check_ends()
    assert [s.state for s in w.devices["d0"].slots.state().segments] == []


def test_a_stale_epoch_is_ignored() -> None:
    w = world()
    w.reallocate({d: [0] for d in w.settings.devices})
    stale = w.allocation("d0")
    w.epoch -= 1
    old = w.allocation("d0")
    assert old.epoch < stale.epoch
    said = w.devices["d0"].handle(ev.AllocationReceived(old), w.now)
    assert [i.counter for i in said if isinstance(i, ins.Note)] == ["allocations_stale"]


def test_stopping_refuses_new_works_hands_on_the_rest_and_ends() -> None:
    w = world()
    for i in range(6):
        w.submit("yard", str(i))
    w.run(0.55)
    stopped = []
    w._do_Stopped = lambda id, i: stopped.append((id, i.left))  # type: ignore[attr-defined]
    w.feed("d2", ev.StopAsked(5.0))
    w.run(5.0)
    w.check_ends()
    assert stopped == [("d2", 0)]


def test_a_work_that_nobody_can_run_fails_with_the_reason() -> None:
    w = world(residents={"d0": [0, 1], "d1": [0, 1], "d2": [0, 1]}, limits=Limits(no_route_s=1.0))
    w.submit("gate", "a")
    w.run(5.0)
    assert ends(w, "gate", "a")[0] == "failed:no_route"


def test_full_devices_that_need_each_other_do_not_wait_for_ever() -> None:
    limits = Limits(works_ahead_max=1, queue_works_max=8, outputs_max=1)
    residents = {"d0": [0, 2], "d1": [1, 3], "d2": []}
    w = world(residents=residents, limits=limits)
    for i in range(40):
        w.submit("gate", str(i))
        w.submit("yard", str(i))
    w.run(60.0)
    w.check_ends()
