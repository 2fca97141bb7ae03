"""The sender keeps what it handed over until it has gone further, and whoever loses sight of a work places it again:
one test per sentence of protocol.md."""

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.limits import Limits
from tests.core.lone import NBYTES, Lone, key, sent, tensor, told
from tests.core.test_handover import far, handed_over


def test_the_sender_keeps_the_tensor_until_the_receiver_has_passed_it_on() -> None:
    stage = far()
    handed_over(stage)
    stage.receive("d1", ms.PassedOn(key("a")))
    assert stage.place(key("a")) == "nowhere"


def test_passed_on_is_said_when_the_next_device_has_taken_it_and_not_before() -> None:
    stage = Lone(units=(0,))
    stage.offers("d2", 1)
    stage.receive("d1", tensor(key("a")))
    stage.infer()
    stage.receive("d2", ms.Ctc(key("a", 1), 1.0))
    assert sent(stage.said, ms.PassedOn) == []
    assert told(stage.receive("d2", ms.Taken(key("a", 1)))) == ["d1 PassedOn"]


def test_a_tensor_that_is_refused_stays_here_and_goes_elsewhere() -> None:
    stage = far()
    stage.submit("a")
    stage.receive("d1", ms.Ctc(key("a"), 1.0))
    stage.offers("d2", 0, seconds=0.0)
    assert told(stage.receive("d1", ms.Refusal(key("a"), "busy"))) == ["d2 Rtc"]


def test_when_a_device_is_dead_the_other_sends_it_on_again_from_the_same_boundary() -> None:
    stage = Lone(units=(0,))
    stage.offers("d1", 1)
    stage.submit("a")
    stage.receive("d1", ms.Ctc(key("a", 1), 1.0))
    stage.infer()
    stage.receive("d1", ms.Taken(key("a", 1)))
    stage.offers("d2", 1)
    stage.feed(ev.LinkDown("d1"))
    assert stage.place(key("a", 1)) == "backup"  # silent is not dead yet
    said = stage.feed(ev.PeerState("d1", "offline"))
    [(peer, asked)] = sent(said, ms.Rtc)
    assert peer == "d2" and isinstance(asked, ms.Rtc) and asked.key == key("a", 1)


def test_a_silent_link_alone_means_dead_after_a_while() -> None:
    stage = far()
    handed_over(stage)
    stage.feed(ev.LinkDown("d1"))
    stage.later(stage.device.context.limits.dead_s - 0.1)
    assert stage.place(key("a")) == "backup"
    stage.later(0.2)
    assert stage.place(key("a")) == "seeking"


def test_a_will_alone_means_suspect_no_new_works_go_there_and_nothing_is_sent_again() -> None:
    stage = far()
    handed_over(stage)
    stage.feed(ev.PeerState("d1", "offline"))
    assert told(stage.submit("b")) == [] and stage.place(key("a")) == "backup"
    assert told(stage.feed(ev.PeerState("d1", "online"))) == ["d1 Rtc"]


def test_on_reconnect_two_peers_exchange_the_keys_they_hold() -> None:
    stage = far()
    handed_over(stage, "a")
    handed_over(stage, "b")
    said = stage.receive("d1", ms.Holding((key("a"),)))
    assert stage.place(key("a")) == "backup" and [m.key for _, m in sent(said, ms.Rtc)] == [key("b")]  # type: ignore[union-attr]


def test_what_was_passed_on_is_said_before_what_is_held_so_that_it_is_not_taken_for_lost() -> None:
    stage = Lone(units=(0,))
    stage.offers("d2", 1)
    stage.receive("d1", tensor(key("a")))
    stage.receive("d1", tensor(key("b")))
    stage.infer()
    stage.receive("d2", ms.Ctc(key("a", 1), 1.0))
    stage.receive("d2", ms.Taken(key("a", 1)))
    greeting = sent(stage.feed(ev.LinkUp("d1", 1)), ms.PassedOn, ms.Holding)
    assert greeting == [("d1", ms.PassedOn(key("a"))), ("d1", ms.Holding((key("b"),)))]


def test_held_keys_of_finished_works_are_answered_with_finished() -> None:
    stage = Lone()
    stage.receive("d2", ms.Finished((key("a").work,)))
    assert told(stage.receive("d1", ms.Holding((key("a"), key("b"))))) == ["d1 Finished"]


def test_a_work_that_was_taken_before_the_link_broke_is_not_sent_twice() -> None:
    stage = far()
    stage.submit("a")
    stage.receive("d1", ms.Ctc(key("a"), 1.0))
    stage.feed(ev.LinkDown("d1"))
    stage.feed(ev.LinkUp("d1", 1))
    assert told(stage.offers("d1", 0)) == ["d1 Rtc"]
    said = stage.receive("d1", ms.Taken(key("a")))  # that is how a duplicate request is answered
    assert stage.place(key("a")) == "backup" and told(said) == []


def test_a_request_for_what_has_been_passed_on_frees_the_copy() -> None:
    stage = far()
    stage.submit("a")
    stage.receive("d1", ms.PassedOn(key("a")))
    assert stage.place(key("a")) == "nowhere"


def test_a_tensor_that_nobody_speaks_of_is_placed_again() -> None:
    stage = far()
    stage.submit("a")
    stage.receive("d1", ms.Ctc(key("a"), 1.0))
    assert "d1 Rtc" in told(stage.later(stage.device.context.limits.resend_s + 0.1))
    assert stage.counters["tensors_unanswered"] == 1


def test_copies_are_bounded_in_bytes_and_the_oldest_goes_first() -> None:
    stage = far(Limits(backup_bytes_max=2 * NBYTES))
    for id in ("a", "b", "c"):
        handed_over(stage, id)
        stage.now += 0.01
    assert [stage.place(key(id)) for id in ("a", "b", "c")] == ["nowhere", "backup", "backup"]
    assert stage.counters["backups_dropped"] == 1


def test_copies_are_bounded_in_age_and_finished_ids_free_them_before() -> None:
    stage = far()
    stage.receive("d1", ms.Beacon("d1"))
    stage.offers("d1", 0, 1, 2, 3)
    handed_over(stage, "a")
    stage.receive("d1", ms.Finished((key("a").work,)))
    assert stage.place(key("a")) == "nowhere"
    other = Lone(units=(0,), head="d1")
    other.offers("d2", 1)
    other.receive("d1", tensor(key("b")))
    other.infer()
    other.receive("d2", ms.Ctc(key("b", 1), 1.0))
    other.receive("d2", ms.Taken(key("b", 1)))
    other.later(199.0)
    assert other.place(key("b", 1)) == "backup"
    other.later(2.0)
    assert other.place(key("b", 1)) == "nowhere" and other.counters["backups_expired"] == 1


def test_an_answer_is_kept_until_its_head_says_finished_and_said_again_when_asked() -> None:
    stage = Lone(units=(3,), head="d1")
    stage.receive("d1", tensor(key("a", 3)))
    assert told(stage.infer()) == ["d1 Answer"]
    assert told(stage.receive("d1", ms.Where(key("a").work, 0))) == ["d1 Here", "d1 Answer"]
    assert told(stage.feed(ev.LinkUp("d1", 1)))[-1] == "d1 Answer"
    stage.receive("d1", ms.Finished((key("a").work,)))
    assert len(stage.device.holdings) == 0


def test_an_input_that_fails_here_is_tried_elsewhere_before_it_is_tried_here_again() -> None:
    stage = Lone()
    stage.offers("d1", 0, seconds=1.0)  # much slower: chosen only because we have failed
    stage.submit("a")
    said = stage.feed(ev.InferenceFailed(key("a"), "nan"))
    assert told(said) == ["d1 Rtc"]


def test_an_input_that_no_device_can_run_is_tried_a_bounded_number_of_times() -> None:
    stage = Lone()
    stage.submit("a")
    for _ in range(3):
        stage.feed(ev.InferenceFailed(key("a"), "nan"))
    assert stage.running is None and stage.counters["inferences_failed"] == 3
    final = [i for i in stage.said if isinstance(i, ins.JournalFinal)]
    assert [(i.status, i.reason) for i in final] == [("failed", "attempts")]


def test_a_work_that_ends_while_it_is_started_leaves_nobody_who_seeks_for_it() -> None:
    """A restored work is started anew at the very instant of its deadline; half a minute later somebody would look at
    what had found nobody for so long."""
    record = ev.OpenRecord(key("a").work, "digest", "input", NBYTES, 1, 0.0, None, 5.0)
    stage = Lone(units=(), restored=ev.Restored((record,)))
    for peer in ("d1", "d2"):
        stage.feed(ev.LinkDown(peer))
    stage.now = 5.0
    said = stage.feed(ev.Woken())
    assert [i.reason for i in said if isinstance(i, ins.JournalFinal)] == ["deadline"]
    assert len(stage.device.holdings) == 0
    stage.now = 105.0
    assert not any(isinstance(i, ins.PublishResult) for i in stage.feed(ev.Woken()))
