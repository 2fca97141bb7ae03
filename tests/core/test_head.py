"""Admission, restart, replay, deadlines and cancelling at the head, sentence by sentence."""

from typing import List, Optional

import pytest

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.allocation import SourceSpec
from pamdi.core.limits import Limits
from pamdi.core.work import WorkId
from tests.core.lone import NBYTES, Lone, key, results, sent, tensor, told


def lost(stage: Lone, id: str, peer: str = "d1") -> None:
    """A work of ours is taken by ``peer``, which passes it on to nobody who ever speaks of it again."""
    stage.submit(id)
    stage.receive(peer, ms.Ctc(key(id), 1.0))
    stage.receive(peer, ms.Taken(key(id)))
    stage.receive(peer, ms.PassedOn(key(id)))


def far(**changes: object) -> Lone:
    stage = Lone(units=(), **changes)  # type: ignore[arg-type]
    stage.offers("d1", 0, 1, 2, 3)
    return stage


# -- admission -----------------------------------------------------------------------------------------------


def test_the_input_is_in_the_journal_before_admitted_is_said() -> None:
    stage = Lone()
    said = stage.feed(ev.Submitted(key("a").work, "digest-a", "input", NBYTES))
    assert any(isinstance(i, ins.JournalOpen) for i in said) and results(said) == []
    assert results(stage.feed(ev.JournalWritten(key("a").work, False))) == ["admitted"]


def test_the_end_is_in_the_journal_before_it_is_published_and_published_until_it_is_heard() -> None:
    stage = Lone(units=(0, 1, 2, 3))
    stage.submit("a")
    said: List[ins.AnyInstruction] = []
    for _ in range(4):
        said += stage.infer()
    assert any(isinstance(i, ins.JournalFinal) for i in said) and results(said) == []
    [published] = [i for i in stage.feed(ev.JournalWritten(key("a").work, True)) if isinstance(i, ins.PublishResult)]
    assert published.status == "answered" and published.acknowledge


def test_a_journal_that_cannot_take_an_input_refuses_it_and_the_id_is_forgotten() -> None:
    stage = Lone()
    stage.feed(ev.Submitted(key("a").work, "digest-a", "input", NBYTES))
    assert results(stage.feed(ev.JournalRefused(key("a").work, False, "full"))) == ["refused journal_full"]
    assert stage.device.head.open_count() == 0
    assert results(stage.submit("a")) == ["admitted"]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(open_works_max=1), "overloaded"),
        (Limits(journal_bytes_max=NBYTES + 40 + 10), "overloaded"),
        (Limits(submit_bytes_max=10), "too_large"),
    ],
)
def test_full_means_refusing_with_the_reason_and_when_to_come_back(limits: Limits, reason: str) -> None:
    stage = Lone(limits=limits)
    stage.submit("a")
    [refused] = [i for i in stage.submit("b") if isinstance(i, ins.PublishResult)]
    assert (refused.status, refused.reason) == ("refused", reason)
    assert (refused.retry_after_s is not None) == (reason == "overloaded")


def test_room_for_the_answer_is_counted_in_when_a_work_is_admitted() -> None:
    """Else a work could be let in whose end finds no room."""
    for bytes_max, said in ((NBYTES + 39, "refused overloaded"), (NBYTES + 40, "admitted")):
        assert results(Lone(limits=Limits(journal_bytes_max=bytes_max)).submit("a")) == [said]


def test_a_draining_device_refuses_submissions_with_stopping_but_still_knows_old_ids() -> None:
    stage = Lone()
    stage.submit("a")
    stage.feed(ev.DrainAsked())
    assert results(stage.submit("b")) == ["refused stopping"]
    assert results(stage.submit("a")) == ["admitted"]
    stage.feed(ev.DrainAsked(on=False))
    assert results(stage.submit("b")) == ["admitted"]


@pytest.mark.parametrize(("asked", "urgency"), [(None, 10.0), (5.0, 5.0), (15.0, 15.0), (1000.0, 20.0)])
def test_gamma_asked_by_a_client_is_capped_by_gamma_max(asked: Optional[float], urgency: float) -> None:
    stage = Lone()
    stage.submit("a", "gate", gamma=asked)
    [started] = [i for i in stage.said if isinstance(i, ins.Infer)]
    assert started.urgency == urgency


@pytest.mark.parametrize(
    "nonsense", [{"gamma": 0.0}, {"gamma": -1.0}, {"gamma": float("nan")}, {"deadline_s": float("nan")}]
)
def test_numbers_that_cannot_be_meant_are_bad_input(nonsense: dict) -> None:  # type: ignore[type-arg]
    assert results(Lone().submit("a", **nonsense)) == ["refused bad_input"]


def test_an_id_may_come_anew_when_its_answer_is_forgotten_everywhere() -> None:
    here, there = Lone(), Lone(head="d1")
    for stage in (here, there):
        stage.receive("d1", ms.Finished((key("a").work,)))
    there.later(299.0)
    assert told(there.receive("d1", tensor(key("a")))) == ["d1 Taken"]  # after known_s, before the head forgets
    here.submit("b")
    here.feed(ev.CancelAsked(key("b").work))
    here.feed(ev.JournalWritten(key("b").work, True))
    here.later(301.0)
    assert results(here.submit("b")) == ["admitted"] and not here.device.remembered.has_ended(key("b").work)


@pytest.mark.parametrize(
    "changes", [{"known_s": 150.0}, {"backup_s": 250.0}, {"replay_s_max": 260.0}, {"answer_memory_s": 230.0}]
)
def test_limits_under_which_a_retry_could_outlive_the_memory_of_its_key_are_refused(changes: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="known_s"):
        Limits(**changes)


def test_remembered_keys_are_bounded_in_number() -> None:
    stage = Lone(head="d1", limits=Limits(known_keys_max=10))
    for i in range(50):
        stage.receive("d1", ms.Finished((WorkId("yard", str(i)),)))
    assert len(stage.device.remembered) == 10


# -- deadlines and cancelling -----------------------------------------------------------------------------------


def test_a_deadline_travels_as_time_left_reduced_by_the_measured_transit_at_every_hop() -> None:
    stage = Lone(units=(0,), head="d1")
    stage.offers("d2", 1)
    stage.receive("d1", tensor(key("a"), left_s=1.0, age_s=2.0), transit_s=0.25)
    stage.infer(0.1)
    [(_, onward)] = sent(stage.receive("d2", ms.Ctc(key("a", 1), 1.0)), ms.Tensor)
    assert isinstance(onward, ms.Tensor)
    assert onward.work.left_s == pytest.approx(1.0 - 0.25 - 0.1) and onward.work.age_s == pytest.approx(2.35)


@pytest.mark.parametrize("queued", [False, True])
def test_an_expired_work_stops_where_it_is(queued: bool) -> None:
    stage = Lone(head="d1")
    if queued:
        stage.receive("d2", tensor(key("first"), 10.0))
    stage.receive("d1", tensor(key("late"), left_s=0.5))
    assert stage.place(key("late")) == ("queued" if queued else "running")
    stage.later(0.51)
    assert stage.place(key("late")) == "nowhere" and stage.counters["works_expired_here"] == 1
    assert told(stage.infer(0.01), ms.Answer, ms.Rtc) == []


def test_an_expired_work_fails_at_its_head_wherever_it_is() -> None:
    stage = far()
    stage.submit("a", deadline_s=0.5)
    stage.receive("d1", ms.Ctc(key("a"), 1.0))
    stage.receive("d1", ms.Taken(key("a")))
    stage.later(0.51)
    assert results(stage.feed(ev.JournalWritten(key("a").work, True))) == ["failed deadline"]


@pytest.mark.parametrize("queued", [False, True])
def test_cancelling_reaches_works_that_run_or_wait_on_other_devices(queued: bool) -> None:
    head = far()
    head.submit("a")
    head.receive("d1", ms.Ctc(key("a"), 1.0))
    head.receive("d1", ms.Taken(key("a")))
    head.feed(ev.CancelAsked(key("a").work))
    head.feed(ev.JournalWritten(key("a").work, True))
    [(_, finished), _] = sent(head.later(0.11), ms.Finished)  # to d1 and to d2
    there = Lone(head="d1")
    if queued:
        there.receive("d2", tensor(key("first"), 10.0))
    there.receive("d1", tensor(key("a")))
    there.receive("d1", finished)
    assert there.place(key("a")) == "nowhere"
    assert told(there.infer(), ms.Answer) == [] and there.running == (key("first", 1) if queued else None)


def test_a_cancel_that_overtakes_the_journal_takes_effect_once_the_input_is_written() -> None:
    stage = Lone()
    stage.feed(ev.Submitted(key("a").work, "digest-a", "input", NBYTES))
    assert results(stage.feed(ev.CancelAsked(key("a").work))) == []
    assert results(stage.feed(ev.JournalWritten(key("a").work, False))) == ["admitted"]
    assert results(stage.feed(ev.JournalWritten(key("a").work, True))) == ["failed cancelled"]
    assert not any(isinstance(i, ins.Infer) for i in stage.said)


def test_a_cancel_that_comes_too_late_is_answered_with_the_end_that_the_work_had() -> None:
    stage = Lone()
    stage.submit("a")
    while stage.running is not None:
        stage.infer()
    ended = stage.feed(ev.JournalWritten(key("a").work, True))
    again = stage.feed(ev.CancelAsked(key("a").work))
    assert results(ended) == results(again) == ["answered"] and len(again) == 1


def test_a_cancel_of_what_nobody_knows_is_answered_by_the_sources_own_head_alone() -> None:
    stage = Lone()
    assert results(stage.feed(ev.CancelAsked(key("never").work))) == ["refused unknown_work"]
    assert results(stage.feed(ev.CancelAsked(WorkId("elsewhere", "never")))) == []
    assert results(Lone(head="d1").feed(ev.CancelAsked(key("never").work))) == []


# -- restart ----------------------------------------------------------------------------------------------------


def restored(**changes: object) -> ev.Restored:
    fields = {
        "work": WorkId("gate", "a"),
        "digest": "digest-a",
        "payload": "input",
        "nbytes": NBYTES,
        "attempt": 0,
        "age_s": 3.0,
    }
    return ev.Restored(open=(ev.OpenRecord(**{**fields, **changes}),))  # type: ignore[arg-type]


def test_a_restarted_head_says_admitted_again_and_starts_what_nobody_speaks_of() -> None:
    stage = Lone(restored=restored())
    stage.later(3.0)
    assert stage.running == key("a", 0, attempt=1, source="gate")
    assert [i.attempt for i in stage.said if isinstance(i, ins.JournalAttempt)] == [1]


def test_a_deadline_goes_on_while_the_head_is_away() -> None:
    stage = Lone(restored=restored(left_s=0.2))
    stage.later(0.3)
    assert results(stage.feed(ev.JournalWritten(WorkId("gate", "a"), True))) == ["failed deadline"]
    overdue = Lone(restored=restored(left_s=-1.0))
    overdue.later(0.0)
    assert results(overdue.feed(ev.JournalWritten(WorkId("gate", "a"), True))) == ["failed deadline"]


def test_an_end_that_was_not_heard_is_published_again_after_a_restart_and_one_that_was_is_not() -> None:
    def life(delivered: bool) -> List[str]:
        record = ev.FinalRecord(WorkId("gate", "a"), "d", "answered", "", "", 1.0, (), "out", 40, delivered, 5.0)
        return results(Lone().device.handle(ev.Restored(final=(record,)), 1.0))

    assert life(delivered=False) == ["answered"] and life(delivered=True) == []


def test_an_end_is_remembered_for_as_long_as_before_whatever_restarts_come_between() -> None:
    record = ev.FinalRecord(WorkId("gate", "a"), "d", "answered", "", "", 1.0, (), "out", 40, True, 290.0)
    stage = Lone(restored=ev.Restored(final=(record,)))
    assert [i for i in stage.later(9.9) if isinstance(i, ins.JournalForget)] == []
    assert [i for i in stage.later(0.2) if isinstance(i, ins.JournalForget)] == [ins.JournalForget(WorkId("gate", "a"))]


def test_the_result_of_a_restored_work_goes_out_with_its_sources_urgency() -> None:
    stage = Lone(restored=restored())
    stage.receive("d1", ms.Answer(tensor(key("a", 4, source="gate")).work))
    said = stage.feed(ev.JournalWritten(WorkId("gate", "a"), True))
    assert [i.urgency for i in said if isinstance(i, ins.PublishResult)] == [10.0]


def test_restarts_are_not_held_against_a_work_but_for_a_last_bound() -> None:
    fresh = Lone(restored=restored(attempt=5))
    fresh.later(3.0)
    assert fresh.running is not None and fresh.running.attempt == 6
    deadly = Lone(restored=restored(attempt=9))  # attempts_total_max is 10
    deadly.later(3.0)
    assert results(deadly.feed(ev.JournalWritten(WorkId("gate", "a"), True))) == ["failed attempts"]


# -- replay -----------------------------------------------------------------------------------------------------


def test_the_head_asks_where_a_work_is_before_it_replays_it() -> None:
    stage = far()
    lost(stage, "a")
    assert told(stage.later(5.1), ms.Where) == ["d1 Where", "d2 Where"]
    stage.receive("d1", ms.Here(key("a").work, 0, False))
    assert stage.counters.get("works_replayed", 0) == 0
    stage.receive("d2", ms.Here(key("a").work, 0, False))
    assert stage.counters["works_replayed"] == 1


def test_silence_is_taken_for_no() -> None:
    stage = far()
    lost(stage, "a")
    stage.later(6.2)
    assert stage.counters["works_replayed"] == 1


def test_a_work_that_is_found_alive_is_asked_for_less_and_less_often() -> None:
    stage = far()
    lost(stage, "a")
    asked: List[float] = []
    while len(asked) < 5:
        if told(stage.later(1.0), ms.Where):
            asked.append(stage.now)
            stage.receive("d1", ms.Here(key("a").work, 0, True))
    waits = [later - earlier for earlier, later in zip(asked, asked[1:])]
    assert waits == pytest.approx([10.0, 20.0, 40.0, 80.0], abs=1.5)


def test_patience_grows_with_what_works_take_at_present_and_is_bounded() -> None:
    stage = far()
    stage.device.head.mean_latency_s = 10.0
    lost(stage, "a")
    assert told(stage.later(39.0), ms.Where) == [] and told(stage.later(2.0), ms.Where) != []
    slow = far()
    slow.device.head.mean_latency_s = 1e6
    lost(slow, "a")
    assert told(slow.later(slow.device.context.limits.replay_s_max + 1.0), ms.Where) != []


def test_when_a_device_has_died_open_works_are_asked_for_soon() -> None:
    stage = far()
    lost(stage, "a")
    stage.feed(ev.LinkDown("d1"))
    stage.feed(ev.PeerState("d1", "offline"))
    assert told(stage.later(1.1), ms.Where) == ["d2 Where"]


def test_a_new_life_of_a_device_that_was_never_missed_means_that_the_old_one_died() -> None:
    stage = far()
    lost(stage, "a")
    stage.feed(ev.LinkUp("d1", 2))
    assert sorted(told(stage.later(1.1), ms.Where)) == ["d1 Where", "d2 Where"]
    same = far()
    lost(same, "a")
    same.feed(ev.LinkUp("d1", 1))
    assert told(same.later(1.1), ms.Where) == []


def test_a_device_that_stops_tells_what_has_ended_before_it_goes() -> None:
    """Else copies of it would be kept elsewhere until they are too old."""
    stage = Lone()
    stage.submit("a")
    for _ in range(4):
        stage.infer()
    stage.feed(ev.StopAsked(5.0))
    said = stage.feed(ev.JournalWritten(key("a").work, True)) + stage.later(0.0) + stage.feed(ev.Woken())
    order = [type(getattr(i, "message", i)) for i in stage.said]
    assert order.count(ms.Finished) == 2 and order.index(ms.Finished) < order.index(ins.Stopped), said


def test_replays_are_a_tenth_of_admissions_at_most() -> None:
    sources = (SourceSpec("yard", "net", "d0", attempts_max=100),)
    stage = far(limits=Limits(replay_burst=20, replay_trickle_hz=0.0), sources=sources)

    def replays_after(admissions: int) -> int:
        """So many works are admitted, and everything that is started gets lost."""
        before = stage.counters.get("works_replayed", 0)
        for _ in range(admissions):
            lost(stage, str(stage.counters.get("works_admitted", 0)))
        for _ in range(60):
            stage.later(1.0)
            for of in [held.key for held in stage.device.holdings.all() if held.place in ("asking", "seeking")]:
                stage.receive("d1", ms.PassedOn(of))
        return stage.counters["works_replayed"] - before

    assert replays_after(100) == 20  # the burst, which was full
    assert replays_after(50) in (4, 5)
    assert stage.counters["replays_postponed"] > 0


def test_in_a_fleet_that_admits_nothing_replays_trickle_so_that_none_waits_for_ever() -> None:
    sources = (SourceSpec("yard", "net", "d0", attempts_max=100),)
    stage = far(limits=Limits(replay_burst=0), sources=sources)
    lost(stage, "a")
    stage.later(20.0)
    assert stage.counters["works_replayed"] >= 1


def test_devices_lost_on_the_way_and_replays_count_together() -> None:
    stage = far()
    lost(stage, "a")
    stage.later(6.2)  # the first replay
    [(_, onward)] = sent(stage.receive("d1", ms.Ctc(key("a", attempt=1), 1.0)), ms.Tensor)
    assert isinstance(onward, ms.Tensor) and onward.work.resent == 1
    stage.receive("d1", ms.Taken(key("a", attempt=1)))
    stage.receive("d1", ms.Answer(onward.work, error="attempts"), None)
    assert results(stage.feed(ev.JournalWritten(key("a").work, True))) == ["failed attempts"]


def test_the_first_answer_counts_and_every_later_one_is_told_that_the_work_has_ended() -> None:
    stage = far()
    lost(stage, "a")
    stage.receive("d1", ms.Answer(tensor(key("a", 4)).work), "first")
    stage.receive("d2", ms.Answer(tensor(key("a", 4, attempt=1)).work), "second")
    said = stage.feed(ev.JournalWritten(key("a").work, True))
    assert [i.payload for i in said if isinstance(i, ins.PublishResult)] == ["first"]
    assert told(said, ms.Finished) == ["d1 Finished", "d2 Finished"]
    assert told(stage.receive("d2", ms.Answer(tensor(key("a", 4)).work), "third")) == ["d2 Finished"]
