"""Where urgency is kept: one test for each place that the core knows. (The links and the two MQTT connections keep it
in the daemon's tests.)"""

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.allocation import DeviceAllocation, SourceSpec
from pamdi.core.context import Context
from pamdi.core.holdings import Held
from pamdi.core.klass import Klass
from pamdi.core.limits import Limits
from pamdi.core.work import Work
from tests.core.lone import Lone, key, rtc, sent, tensor, told


def test_submission_an_urgent_work_is_admitted_while_another_source_is_full() -> None:
    sources = (SourceSpec("gate", "net", "d0", gamma=10.0), SourceSpec("yard", "net", "d0", queue_works_max=1))
    stage = Lone(sources=sources)
    stage.submit("a")
    stage.submit("b")
    stage.submit("c", "gate")
    said = [(i.work.id, i.status, i.urgency) for i in stage.said if isinstance(i, ins.PublishResult)]
    assert said == [("a", "admitted", 1.0), ("b", "refused", 1.0), ("c", "admitted", 10.0)]


def test_the_heads_queue_an_urgent_work_is_placed_before_older_normal_ones() -> None:
    stage = Lone(units=())
    for id in ("a", "b", "c"):
        stage.submit(id)
    stage.submit("urgent", "gate")
    assert [asked.key.id for _, asked in sent(stage.offers("d1", 0), ms.Rtc)] == ["urgent", "a", "b", "c"]  # type: ignore[union-attr]


def test_the_heads_queue_normal_requests_in_the_air_do_not_keep_an_urgent_one_back() -> None:
    stage = Lone(units=(), limits=Limits(asks_max=2))
    stage.offers("d1", 0)
    for id in ("a", "b", "c"):
        stage.submit(id)
    assert told(stage.submit("d"), ms.Rtc) == []
    assert told(stage.submit("urgent", "gate"), ms.Rtc) == ["d1 Rtc"]


def test_requests_in_the_air_for_one_place_do_not_keep_results_for_another_from_being_asked_for() -> None:
    """They may wait for just that result to leave, here or over others (seed 89668 of the search, which found it)."""
    stage = Lone(units=(0, 2), limits=Limits(asks_max=1, works_ahead_max=6))
    stage.offers("d1", 1)
    stage.offers("d2", 3)
    stage.submit("a")
    assert told(stage.feed(ev.Inferred(key("a"), "tensor", 1000, 0.025)), ms.Rtc) == []  # it was asked for early
    assert stage.place(key("a", 1)) == "asking"
    stage.receive("d1", rtc(key("z", 2)))
    stage.receive("d1", tensor(key("z", 2)))
    assert told(stage.said, ms.Rtc) == ["d1 Rtc", "d2 Rtc"]
    stage.receive("d1", rtc(key("y", 2)))
    stage.receive("d1", tensor(key("y", 2)))
    stage.feed(ev.Inferred(key("z", 2), "tensor", 1000, 0.025))
    stage.feed(ev.Inferred(key("y", 2), "tensor", 1000, 0.025))
    assert told(stage.said, ms.Rtc) == ["d1 Rtc", "d2 Rtc"]  # one for each place


def test_the_reservation_normal_works_leave_the_urgent_ones_room() -> None:
    stage = Lone()
    for id in ("a", "b", "c", "d"):
        stage.receive("d1", rtc(key(id)))
    assert len(sent(stage.said, ms.Ctc)) == 2
    assert told(stage.receive("d2", rtc(key("urgent"), 10.0))) == ["d2 Ctc"]


def test_the_reservation_a_later_urgent_request_takes_over_an_unused_promise_and_the_loser_asks_elsewhere() -> None:
    stage = Lone(limits=Limits(works_ahead_max=1, queue_works_max=1))
    stage.receive("d1", rtc(key("normal")))
    assert told(stage.receive("d2", rtc(key("urgent"), 10.0))) == ["d1 Revoked", "d2 Ctc"]
    loser = Lone(units=())
    loser.offers("d1", 0)
    loser.offers("d2", 0, seconds=1.0)
    loser.submit("normal")
    assert told(loser.receive("d1", ms.Revoked(key("normal")))) == ["d2 Rtc"]


def test_the_link_tensors_leave_with_their_class() -> None:
    stage = Lone(units=())
    stage.offers("d1", 0)
    stage.submit("a", "gate")
    [sending] = [i for i in stage.receive("d1", ms.Ctc(key("a", source="gate"), 1.0)) if isinstance(i, ins.Send)]
    assert isinstance(sending.message, ms.Tensor) and sending.urgency == 10.0


def test_the_workers_queue_and_executor_an_urgent_work_waits_for_the_segment_that_has_started_and_no_other() -> None:
    stage = Lone(head="d1")
    for id in ("a", "b"):
        stage.receive("d1", tensor(key(id)))
    stage.receive("d2", tensor(key("urgent"), 10.0))
    order = [stage.running]
    while stage.running is not None:
        stage.infer()
        order.append(stage.running)
    assert [of.id if of else "" for of in order] == ["a"] + ["urgent"] * 4 + ["a"] * 3 + ["b"] * 4 + [""]


def test_the_executor_is_told_the_class() -> None:
    stage = Lone(head="d1")
    said = stage.receive("d1", tensor(key("urgent"), 10.0))
    assert [i.urgency for i in said if isinstance(i, ins.Infer)] == [10.0]


def test_the_results_way_back_answers_and_results_carry_their_class() -> None:
    there = Lone(units=(3,), head="d1")
    there.receive("d1", tensor(key("urgent", 3), 10.0))
    [answer] = [i for i in there.infer() if isinstance(i, ins.Send) and isinstance(i.message, ms.Answer)]
    assert answer.urgency == 10.0
    head = Lone(units=())
    head.submit("urgent", "gate")
    head.receive("d1", ms.Answer(tensor(key("urgent", 4, source="gate"), 10.0).work))
    said = head.feed(ev.JournalWritten(key("urgent", source="gate").work, True))
    assert [i.urgency for i in said if isinstance(i, ins.PublishResult)] == [10.0]


def test_outputs_that_cannot_leave_hold_back_their_own_class_and_no_higher_one() -> None:
    stage = Lone(units=(0,), head="d1", limits=Limits(outputs_max=1))
    stage.receive("d1", tensor(key("a")))
    stage.receive("d1", tensor(key("b")))
    stage.infer()
    assert stage.running is None and stage.place(key("b")) == "queued"  # nobody takes unit 1, so b waits here
    stage.receive("d2", tensor(key("urgent"), 10.0))
    assert stage.running == key("urgent")


def test_the_starvation_bound_lifts_a_work_in_the_queue_and_while_it_seeks() -> None:
    sources = (SourceSpec("gate", "net", "d1", gamma=10.0), SourceSpec("yard", "net", "d1"))
    stage = Lone(head="d1", sources=sources)
    stage.receive("d2", tensor(key("first"), 10.0))
    stage.receive("d1", tensor(key("old"), age_s_max=0.5))
    stage.later(0.6)
    stage.receive("d2", tensor(key("young", source="gate"), 10.0))
    while stage.running is not None and stage.running.id == "first":
        stage.infer(0.0)
    assert stage.running == key("old")
    seeking = Lone(units=(), sources=(sources[0], SourceSpec("yard", "net", "d0", age_s_max=0.5)))
    seeking.submit("old")
    seeking.later(0.6)
    [(_, asked)] = sent(seeking.offers("d1", 0), ms.Rtc)
    assert isinstance(asked, ms.Rtc) and asked.urgency == 10.0


def test_a_work_is_lifted_at_the_very_instant_of_its_alarm_however_that_was_rounded() -> None:
    context = Context("d0", Limits())
    sources = (SourceSpec("gate", "net", "d0", gamma=10.0), SourceSpec("yard", "net", "d0", age_s_max=0.7))
    context.obey(DeviceAllocation(1, sources=sources))
    held = Held(Work(key("old"), "net", "d0", 1.0, 0.0, age_s_max=0.7), "input", 1000, 0.0)
    rounded_down = 0
    for number in range(1000):
        held.born = number * 0.1
        context.now = held.born + 0.7
        rounded_down += context.now - held.born < 0.7
        assert Klass(context)(held) == 10.0
    assert rounded_down > 0  # else this shows nothing
