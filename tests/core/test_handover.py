"""The hand-over, sentence by sentence: asked, cleared, sent, taken, kept, passed on."""

from typing import List

import pytest

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.limits import Limits
from pamdi.core.work import Key
from tests.core.lone import NBYTES, UNIT_S, Lone, key, rtc, sent, tensor, told

ONE = Limits(works_ahead_max=1, queue_works_max=1)


def handed_over(stage: Lone, id: str = "a", peer: str = "d1") -> None:
    """A work of ours goes to ``peer``, which takes it."""
    stage.submit(id)
    stage.receive(peer, ms.Ctc(key(id), 1.0))
    stage.receive(peer, ms.Taken(key(id)))
    assert stage.place(key(id)) == "backup"


def far(limits: Limits = Limits()) -> Lone:
    """A device that holds no segment; d1 holds all."""
    stage = Lone(units=(), limits=limits)
    stage.offers("d1", 0, 1, 2, 3)
    return stage


# -- asking and clearing -----------------------------------------------------------------------------------------


def test_nothing_goes_before_it_is_cleared() -> None:
    stage = far()
    assert told(stage.submit("a")) == ["d1 Rtc"]
    assert told(stage.receive("d1", ms.Ctc(key("a"), 1.0))) == ["d1 Tensor"]


def test_a_clearance_that_is_late_or_from_somebody_else_is_given_back() -> None:
    stage = far()
    assert told(stage.receive("d1", ms.Ctc(key("a"), 1.0))) == ["d1 Withdrawn"]
    stage.submit("a")
    assert told(stage.receive("d2", ms.Ctc(key("a"), 1.0))) == ["d2 Withdrawn"]
    assert stage.place(key("a")) == "asking"


def test_a_late_copy_of_an_older_clearance_clears_nothing_that_was_asked_since() -> None:
    stage = far()
    [(_, first)] = sent(stage.submit("a"), ms.Rtc)
    stage.receive("d1", ms.Refusal(key("a"), "busy"))
    [(_, second)] = sent(stage.later(stage.device.context.limits.avoid_s), ms.Rtc)
    assert isinstance(first, ms.Rtc) and isinstance(second, ms.Rtc)
    assert told(stage.receive("d1", ms.Ctc(key("a"), 1.0, number=first.number))) == []
    assert told(stage.receive("d1", ms.Ctc(key("a"), 1.0, number=second.number))) == ["d1 Tensor"]


def test_a_refusal_or_silence_sends_the_request_to_the_next_best() -> None:
    stage = far()
    stage.offers("d2", 0, seconds=UNIT_S)
    stage.submit("a")
    assert told(stage.receive("d1", ms.Refusal(key("a"), "busy"))) == ["d2 Rtc"]
    assert told(stage.later(stage.device.context.limits.ask_s + 0.01))[:2] == ["d2 Withdrawn", "d1 Rtc"]


def test_who_refused_is_asked_again_after_a_moment_without_any_other_event() -> None:
    stage = far()
    stage.submit("a")
    assert told(stage.receive("d1", ms.Refusal(key("a"), "busy"))) == []
    assert told(stage.later(stage.device.context.limits.avoid_s)) == ["d1 Rtc"]


def test_the_request_for_the_next_segment_goes_out_while_the_present_one_computes() -> None:
    stage = Lone(units=(0,))
    stage.offers("d1", 1)
    said = stage.submit("a")
    assert told(said) == ["d1 Rtc"] and any(isinstance(i, ins.Infer) for i in said)
    [(_, asked)] = sent(said)
    assert isinstance(asked, ms.Rtc) and asked.key == key("a", 1) and asked.ready_in_s == UNIT_S
    stage.receive("d1", ms.Ctc(key("a", 1), 1.0))
    assert told(stage.infer()) == ["d1 Tensor"]


def test_what_was_asked_early_is_given_back_when_the_work_ends_while_it_computes() -> None:
    stage = Lone(units=(0,))
    stage.offers("d1", 1)
    stage.submit("a")
    stage.receive("d1", ms.Ctc(key("a", 1), 1.0))
    assert sent(stage.feed(ev.CancelAsked(key("a").work))) == [("d1", ms.Withdrawn(key("a", 1)))]


def test_half_of_a_promise_is_relied_on_whatever_its_way_took() -> None:
    """It runs on the granter's clock, from when it was given."""
    for waited_s, then in ((0.45, ["d1 Tensor"]), (0.55, ["d1 Withdrawn"])):
        stage = Lone(units=(0,))
        stage.offers("d1", 1)
        stage.submit("a")
        stage.receive("d1", ms.Ctc(key("a", 1), 1.0))
        said = stage.later(waited_s)
        stage.now -= UNIT_S
        assert told(said + stage.infer())[:1] == then


def test_a_tensor_that_is_larger_than_was_asked_for_is_refused_whatever_was_promised() -> None:
    stage = Lone(limits=Limits(tensor_bytes_max=NBYTES))
    stage.receive("d1", rtc(key("a")))
    said = stage.feed(ev.Received("d1", tensor(key("a")), "tensor", NBYTES + 1, 0.0))
    assert [(peer, m.why) for peer, m in sent(said, ms.Refusal)] == [("d1", "too_large")]  # type: ignore[union-attr]


def test_who_handed_us_the_work_of_an_answer_that_we_could_not_keep_may_hand_it_to_us_again() -> None:
    stage = Lone(units=(3,), head="d9", limits=Limits(backup_bytes_max=NBYTES))
    for id in ("a", "b"):  # their head is out of reach, and there is room for one answer
        stage.receive("d1", tensor(key(id, 3), head="d9"))
        stage.infer()
    assert stage.counters["backups_dropped"] == 1
    assert told(stage.receive("d1", tensor(key("b", 3), head="d9"))) == ["d1 Taken"] and stage.running is None
    assert told(stage.receive("d1", tensor(key("a", 3), head="d9"))) == ["d1 Taken"] and stage.running == key("a", 3)


def test_a_grant_a_refusal_and_a_promise_taken_back_carry_the_backlog() -> None:
    stage = Lone(limits=ONE)
    [(_, grant)] = sent(stage.receive("d1", rtc(key("a"))))
    [(_, revoked), _] = sent(stage.receive("d2", rtc(key("b"), 10.0)))
    [(_, refusal)] = sent(stage.receive("d2", ms.Rtc(key("c"), "no", 1.0, 1, 1.0)))
    assert isinstance(grant, ms.Ctc) and grant.backlog.classes[0].seconds == pytest.approx(4 * UNIT_S)
    assert isinstance(revoked, ms.Revoked) and revoked.backlog.classes == ()
    assert isinstance(refusal, ms.Refusal) and refusal.backlog.classes[0].urgency == 10.0


def test_each_refusal_says_why() -> None:
    stage = Lone(units=(0,), limits=Limits(tensor_bytes_max=10, parked_max=0, works_ahead_max=0, outputs_max=1))
    why: List[str] = []
    for asked in (rtc(key("a", 1)), rtc(key("a")), ms.Rtc(key("a"), "net", 1.0, 5, 0.1)):
        why += [m.why for _, m in sent(stage.receive("d1", asked), ms.Refusal) if isinstance(m, ms.Refusal)]
    stage.feed(ev.DrainAsked())
    why += [m.why for _, m in sent(stage.receive("d1", rtc(key("a"))), ms.Refusal) if isinstance(m, ms.Refusal)]
    assert why == ["not_ready", "too_large", "busy", "draining"]


def test_waiting_requests_are_granted_by_class_and_then_by_age_on_one_clock() -> None:
    stage = Lone(limits=ONE)
    stage.receive("d1", tensor(key("x")))
    stage.receive("d1", tensor(key("y")))
    stage.receive("d1", rtc(key("older"), age_s=0.5))
    stage.now += 0.2
    stage.receive("d2", rtc(key("younger"), age_s=0.6))  # 0.1 s younger, for the other has waited here for 0.2 s
    stage.receive("d2", rtc(key("urgent"), 10.0))
    granted: List[str] = []
    while stage.running is not None:
        stage.infer(0.01)
        for peer, message in sent(stage.said, ms.Ctc):
            assert isinstance(message, ms.Ctc)
            if message.key.id not in granted:
                granted.append(message.key.id)
                stage.receive(peer, ms.Withdrawn(message.key))
    assert granted == ["urgent", "older", "younger"]


def test_when_too_many_requests_wait_the_least_urgent_is_refused() -> None:
    stage = Lone(limits=Limits(works_ahead_max=1, queue_works_max=1, parked_max=1))
    stage.receive("d1", tensor(key("x")))
    stage.receive("d1", tensor(key("y"), 10.0))
    stage.receive("d1", rtc(key("normal")))
    assert told(stage.receive("d2", rtc(key("urgent"), 10.0))) == ["d1 Refusal"]


def test_a_promise_that_is_not_used_expires() -> None:
    stage = Lone(limits=ONE)
    stage.receive("d1", rtc(key("a")))
    assert len(stage.device.placing.room) == 1
    stage.later(2.0)
    assert len(stage.device.placing.room) == 0 and stage.counters["reservations_expired"] == 1


def test_a_promise_lasts_until_its_tensor_can_be_here_behind_what_else_comes_from_there() -> None:
    stage = Lone(limits=Limits(works_ahead_max=9))
    seconds = []
    for id in ("a", "b"):  # three seconds each over the link of 1 MB/s
        said = stage.receive("d1", ms.Rtc(key(id), "net", 1.0, 3_000_000, UNIT_S))
        seconds += [message.for_s for _, message in sent(said, ms.Ctc) if isinstance(message, ms.Ctc)]
    assert seconds[0] >= 2 * 3.0 and seconds[1] >= 2 * 6.0


def test_the_slot_of_a_segment_is_there_even_when_the_queue_as_a_whole_is_full() -> None:
    stage = Lone(limits=ONE)
    stage.receive("d1", tensor(key("running")))
    stage.receive("d1", tensor(key("queued")))
    assert told(stage.receive("d1", rtc(key("a", 2))), ms.Ctc) == ["d1 Ctc"]
    assert told(stage.receive("d1", rtc(key("b", 2))), ms.Ctc) == []  # it has one slot
    assert told(stage.receive("d1", rtc(key("c", 0))), ms.Ctc) == []  # works that begin have none


# -- taking ------------------------------------------------------------------------------------------------------


def test_a_tensor_without_a_promise_is_taken_if_there_is_room() -> None:
    stage = Lone()
    assert told(stage.receive("d1", tensor(key("a")))) == ["d1 Taken"]


@pytest.mark.parametrize("of", [key("a", 1), key("a", 7)])
def test_a_tensor_without_a_promise_for_a_segment_that_is_not_here_is_refused(of: Key) -> None:
    stage = Lone(units=(0,))
    assert sent(stage.receive("d1", tensor(of)))[0][1].why == "not_ready"  # type: ignore[union-attr]


def test_a_duplicate_is_answered_with_what_is_known_of_it_in_every_state() -> None:
    stage = Lone(units=(0,))
    stage.offers("d2", 1, 2, 3)

    def again() -> List[str]:
        return told(stage.receive("d1", tensor(key("a")))) + told(stage.receive("d1", rtc(key("a"))))

    assert again() == ["d1 Taken", "d2 Rtc", "d1 Taken"]  # it is new, runs, and its next place is asked for early
    assert again() == ["d1 Taken", "d1 Taken"]  # running
    stage.infer()
    stage.receive("d2", ms.Ctc(key("a", 1), 1.0))
    assert stage.place(key("a", 1)) == "sent" and again() == ["d1 Taken", "d1 Taken"]
    stage.receive("d2", ms.Taken(key("a", 1)))
    assert again() == ["d1 PassedOn", "d1 PassedOn"]  # passed on
    stage.receive("d2", ms.Finished((key("a").work,)))
    assert again() == ["d1 Finished", "d1 Finished"]
    assert stage.counters["duplicates_suppressed"] == 9


def test_a_higher_attempt_erases_lower_ones_everywhere() -> None:
    stage = Lone()
    stage.receive("d1", tensor(key("a", 0)))
    stage.receive("d1", tensor(key("a", 1)))
    stage.receive("d1", tensor(key("a", 0, attempt=1)))
    assert [held.key.attempt for held in stage.device.holdings.all()] == [1]
    assert told(stage.receive("d1", rtc(key("a", 0)))) == ["d1 PassedOn"]
