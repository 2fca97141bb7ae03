"""Works of one segment and class as one batch: when it shortens the queue, never while a more urgent one waits."""

from typing import Any, List, Sequence, Tuple

import pytest

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core.batching import batch_size
from pamdi.core.limits import Limits
from tests.core.lone import UNIT_S, Lone, key, rtc, tensor, told
from tests.core.world import World
from tests.core.world_settings import Settings

WORTH_IT = ((2, 1.2 * UNIT_S), (4, 1.5 * UNIT_S))
ALONE = Limits(works_ahead_max=6, outputs_max=12)


def started(said: Sequence[ins.AnyInstruction]) -> List[Any]:
    """What the executor was told: an id, or the ids of a batch."""
    return [
        i.key.id if isinstance(i, ins.Infer) else [part.key.id for part in i.parts]
        for i in said
        if isinstance(i, (ins.Infer, ins.InferTogether))
    ]


def end(stage: Lone, compute_s: float = UNIT_S, fails: str = "") -> List[Any]:
    """What runs comes to its end, the work ``fails`` with an error. Returns what is started next."""
    batch = stage.device.placing.compute.batch
    stage.now += compute_s
    if len(batch) == 1:
        return started(stage.feed(ev.Inferred(batch[0].key, "tensor", 1000, compute_s)))
    ends = tuple(
        ev.Outcome(held.key, detail="bad") if held.key.id == fails else ev.Outcome(held.key, "tensor", 1000)
        for held in batch
    )
    return started(stage.feed(ev.InferredTogether(ends, compute_s)))


@pytest.mark.parametrize(
    ("waiting", "most", "calibrated", "size"),
    [
        (4, 8, WORTH_IT, 4),
        (3, 8, WORTH_IT, 3),  # taken to last as long as four
        (9, 8, WORTH_IT, 4),  # more was not calibrated
        (4, 2, WORTH_IT, 2),
        (1, 8, WORTH_IT, 1),
        (4, 8, ((2, 2 * UNIT_S), (4, 4 * UNIT_S)), 1),  # saves nothing
        (4, 8, ((2, 1.9 * UNIT_S), (4, 3.1 * UNIT_S)), 2),  # four would be a piece too long
        (4, 8, (), 1),
    ],
)
def test_a_batch_is_as_large_as_saves_most_within_its_bound(
    waiting: int, most: int, calibrated: Tuple[Tuple[int, float], ...], size: int
) -> None:
    assert batch_size(waiting, most, UNIT_S, calibrated, 3.0) == size


def test_queued_works_of_one_segment_and_class_run_together_and_go_their_own_ways() -> None:
    stage = Lone(units=[0], limits=ALONE, batch_seconds=WORTH_IT)
    first = [started(stage.submit(id)) for id in "abcde"]
    assert first == [["a"], [], [], [], []]
    assert end(stage) == [["b", "c", "d", "e"]]
    assert [stage.place(key(id)) for id in "abcde"][1:] == ["running"] * 4
    assert end(stage, 1.5 * UNIT_S) == []
    assert [stage.place(key(id, 1)) for id in "bcde"] == ["seeking"] * 4
    held = stage.device.holdings.get(key("b", 1))
    assert held is not None and held.path[-1].compute_s == 1.5 * UNIT_S  # each was in the executor so long


def test_without_a_profile_or_without_calibrated_seconds_works_run_one_by_one() -> None:
    for batch_seconds in ((), WORTH_IT):
        stage = Lone(units=[], limits=ALONE, batch_seconds=batch_seconds)
        for i in stage.allocate([0], load=False):
            if isinstance(i, ins.Load):
                stage.feed(ev.EngineLoaded(i.segment, 8 if not batch_seconds else 1))
        assert [started(stage.submit(id)) for id in "abc"] == [["a"], [], []]
        assert [end(stage), end(stage)] == [["b"], ["c"]]


def test_no_batch_while_a_more_urgent_work_waits_and_none_across_classes() -> None:
    stage = Lone(units=[0], limits=ALONE, batch_seconds=WORTH_IT)
    for id in "abc":
        stage.submit(id)
    for id in "xyz":
        stage.submit(id, "gate")
    assert end(stage) == [["x", "y", "z"]]
    assert end(stage) == [["b", "c"]]


def test_an_urgent_work_that_cannot_start_keeps_lower_ones_from_a_batch_too() -> None:
    """Its results wait to leave, and it may go on at any moment: what it waits for is one segment, not a batch."""
    stage = Lone(units=[0, 3], limits=Limits(works_ahead_max=6, outputs_max=1), batch_seconds=WORTH_IT)
    stage.submit("x", "gate")
    end(stage)  # x waits for a device that has unit 1
    began = []
    for id in "abc":
        stage.receive("d1", rtc(key(id, 3)))
        began += started(stage.receive("d1", tensor(key(id, 3))))
    stage.submit("y", "gate")
    assert (began, stage.place(key("y", source="gate"))) == (["a"], "queued")
    assert end(stage) == ["b"]
    stage.feed(ev.CancelAsked(key("x", source="gate").work))
    assert end(stage) == ["y"]


def test_no_batch_while_a_more_urgent_tensor_was_promised_room() -> None:
    stage = Lone(units=[0], limits=ALONE, batch_seconds=WORTH_IT)
    for id in "abcd":
        stage.submit(id)
    assert "d1 Ctc" in told(stage.receive("d1", rtc(key("x", source="gate"), 10.0)))
    assert end(stage) == ["b"]
    stage.receive("d1", tensor(key("x", source="gate"), 10.0))
    assert end(stage) == ["x"]
    assert end(stage) == [["c", "d"]]


def test_a_policy_may_look_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """To measure what looking is worth (benchmarks/paper/batches.py)."""
    stage = Lone(units=[0], limits=ALONE, batch_seconds=WORTH_IT)
    monkeypatch.setattr(type(stage.device.context.policy), "batches_beside_urgent", True)
    for id in "abcd":
        stage.submit(id)
    stage.receive("d1", rtc(key("x", source="gate"), 10.0))
    assert end(stage) == [["b", "c", "d"]]


def test_a_work_that_fails_within_a_batch_fails_alone() -> None:
    stage = Lone(units=[0], limits=ALONE, batch_seconds=WORTH_IT)
    for id in "abcd":
        stage.submit(id)
    end(stage)
    stage.offers("d1", 0)
    end(stage, fails="c")
    assert [stage.place(key(id, 1)) for id in "bd"] == ["seeking"] * 2
    assert stage.device.holdings.get(key("c", 1)) is None and stage.place(key("c")) == "asking"
    assert stage.counters["inferences_failed"] == 1


def test_a_work_that_ends_while_its_batch_runs_is_no_longer_heard_of() -> None:
    stage = Lone(units=[0], limits=ALONE, batch_seconds=WORTH_IT)
    for id in "abcd":
        stage.submit(id)
    end(stage)
    stage.feed(ev.CancelAsked(key("c").work))
    end(stage)
    assert [stage.place(key(id, 1)) for id in "bcd"] == ["seeking", "nowhere", "seeking"]
    assert stage.counters["results_of_ended_works"] == 1


def test_an_end_that_does_not_name_the_whole_batch_is_counted_and_changes_nothing() -> None:
    stage = Lone(units=[0], limits=ALONE, batch_seconds=WORTH_IT)
    for id in "abc":
        stage.submit(id)
    end(stage)
    for event in (
        ev.Inferred(key("b"), "tensor", 1000, 0.1),
        ev.InferenceFailed(key("b"), "no"),
        ev.InferredTogether((ev.Outcome(key("c")), ev.Outcome(key("b"))), 0.1),
    ):
        stage.feed(event)
    assert stage.counters["results_unexpected"] == 3 and len(stage.device.placing.compute.batch) == 2


def test_a_work_of_several_inputs_is_a_batch_of_its_own() -> None:
    stage = Lone(units=[0], limits=ALONE, batch_seconds=WORTH_IT)
    for id in "ab":
        stage.submit(id)
    stage.feed(ev.Submitted(key("large").work, "digest", "input", 3000))
    stage.feed(ev.JournalWritten(key("large").work, False))
    stage.submit("c")
    assert end(stage) == [["b", "c"]]
    assert end(stage) == ["large"]


def test_a_work_of_several_inputs_takes_no_others_with_it() -> None:
    stage = Lone(units=[0], limits=ALONE, batch_seconds=WORTH_IT)
    stage.submit("a")
    stage.feed(ev.Submitted(key("aa").work, "digest", "input", 3000))
    stage.feed(ev.JournalWritten(key("aa").work, False))
    for id in "bc":
        stage.submit(id)
    assert end(stage) == ["aa"]
    assert end(stage) == [["b", "c"]]


def test_a_batch_makes_no_more_results_than_may_wait_to_leave() -> None:
    stage = Lone(units=[0], limits=Limits(works_ahead_max=6, outputs_max=3), batch_seconds=WORTH_IT)
    for id in "abcde":
        stage.submit(id)
    assert end(stage) == [["b", "c"]]  # a's result waits for a device that has unit 1


def test_as_many_works_are_cleared_to_send_as_make_a_batch() -> None:
    plain, batched = Lone(units=[0, 1]), Lone(units=[0, 1], batch_seconds=WORTH_IT)
    for stage, granted in ((plain, 2), (batched, 4)):
        answers = [told(stage.receive("d1", rtc(key(str(i), 1)))) for i in range(6)]
        assert sum("d1 Ctc" in answer for answer in answers) == granted


def test_each_work_of_a_batch_asks_for_its_next_place_while_it_computes() -> None:
    stage = Lone(units=[0], limits=ALONE, batch_seconds=WORTH_IT)
    stage.offers("d1", 1)
    for id in "abc":
        stage.submit(id)
    stage.said.clear()
    end(stage)
    assert told(stage.said).count("d1 Rtc") >= 2


def test_a_batch_shortens_the_queue_of_a_world_and_costs_urgent_works_one_piece_at_most() -> None:
    """The same works, with and without batches: all are answered, sooner; every invariant holds on the way."""
    ends = []
    for batch_seconds in ((), WORTH_IT):
        world = World(Settings(1, 1, UNIT_S, batch_seconds=batch_seconds, sources=Settings().sources[:1]))
        world.run(0.3)
        for i in range(24):
            world.submit("gate", str(i))
        world.run(60.0)
        world.check_ends()
        ends.append(max(world.latencies("gate")))
        assert bool(world.batches) == bool(batch_seconds)
    assert ends[1] < 0.6 * ends[0]
