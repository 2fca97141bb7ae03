"""A peer may be buggy: numbers that make no sense are counted, dropped, and refused where somebody waits for a word."""

from typing import List

import pytest

from pamdi.core import messages as ms
from pamdi.core.plausible import complaint
from tests.core.lone import Lone, key, rtc, tensor, told

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "message",
    [
        rtc(key("a"), -1.0), rtc(key("a"), 0.0), rtc(key("a"), NAN), rtc(key("a"), INF), rtc(key("a"), age_s=NAN),
        rtc(key("a", -1)), rtc(key("a"), ready_in_s=INF), ms.Rtc(key("a"), "net", 1.0, -5, 0.1),
        ms.Rtc(key("a"), "net", 1.0, 5, NAN), tensor(key("a"), 0.0), tensor(key("a", attempt=-1)),
        tensor(key("a"), left_s=NAN), tensor(key("a"), age_s=-1.0), tensor(key("a"), resent=-1),
    ],
)  # fmt: skip
def test_a_request_or_tensor_with_nonsense_in_it_is_refused_and_counted(message: ms.AnyMessage) -> None:
    stage = Lone()
    assert told(stage.receive("d1", message)) == ["d1 Refusal"]
    assert stage.counters["messages_malformed"] == 1 and len(stage.device.holdings) == 0


@pytest.mark.parametrize(
    "message",
    [
        ms.Ctc(key("a"), NAN), ms.Ctc(key("a"), -1.0), ms.Ctc(key("a"), 1.0, ms.Backlog(NAN)),
        ms.Beacon("d1", (ms.ReadySegment("net", 3, 1, 0.1),)), ms.Beacon("d1", (ms.ReadySegment("net", 0, 1, NAN),)),
        ms.Beacon("d1", (), ms.Backlog(0.0, (ms.ClassBacklog(0.0, 1.0),))),
        ms.Refusal(key("a"), "busy", ms.Backlog(-1.0)),
        ms.Revoked(key("a"), ms.Backlog(INF)), ms.Answer(tensor(key("a"), NAN).work),
    ],
)  # fmt: skip
def test_any_other_word_with_nonsense_in_it_is_dropped_and_counted(message: ms.AnyMessage) -> None:
    stage = Lone(units=())
    stage.offers("d2", 0)
    stage.submit("a")
    assert told(stage.receive("d1", message)) == [] and stage.counters["messages_malformed"] == 1


def test_a_tensor_or_an_answer_without_its_data_is_not_taken() -> None:
    stage = Lone()
    assert told(stage.receive("d1", tensor(key("a")), payload=None)) == ["d1 Refusal"]
    stage.submit("b")
    assert told(stage.receive("d1", ms.Answer(tensor(key("b", 4)).work), payload=None)) == []
    assert stage.device.head.open_count() == 1 and stage.counters["messages_malformed"] == 2


def test_a_work_of_an_unknown_head_is_computed_and_its_answer_kept_for_a_while() -> None:
    stage = Lone(units=(3,), head="d1")
    stage.receive("d1", tensor(key("a", 3), head="nobody"))
    stage.infer()
    assert stage.place(key("a", 4)) == "answering"
    stage.later(stage.device.context.limits.backup_s + 1)
    assert stage.place(key("a", 4)) == "nowhere"


def test_words_about_works_nobody_knows_change_nothing() -> None:
    stage = Lone()
    said: List[str] = []
    for message in (ms.Taken(key("x")), ms.PassedOn(key("x")), ms.Withdrawn(key("x")), ms.Refusal(key("x"), "busy"),
                    ms.Revoked(key("x")), ms.Here(key("x").work, 0, True), ms.Holding((key("x"),))):  # fmt: skip
        said += told(stage.receive("d1", message))
    assert said == [] and len(stage.device.holdings) == 0 and stage.counters == {}


def test_an_answer_with_a_reason_from_the_future_still_ends_the_work() -> None:
    stage = Lone(units=())
    stage.submit("a")
    stage.receive("d1", ms.Answer(tensor(key("a")).work, error="some_new_reason"), None)
    assert stage.device.head.open_count() == 0


def test_messages_as_they_should_be_give_no_cause_for_complaint() -> None:
    good: List[ms.AnyMessage] = [
        rtc(key("a"), left_s=-1.0),
        tensor(key("a"), left_s=-1.0),
        ms.Ctc(key("a"), 1.0),
        ms.Taken(key("a")),
    ]
    assert [complaint(message, 600.0) for message in good] == [""] * 4
