"""What the core says of what is likely to come next: guesses for whoever moves tensors, which change nothing."""

from typing import List, Optional, Tuple

from pamdi.core import events as ev
from pamdi.core.instructions import AnyInstruction
from pamdi.core.limits import Limits
from pamdi.core.segment import Segment
from tests.core.lone import UNIT_S, Lone

BOTH = ((2, 1.2 * UNIT_S), (4, 1.5 * UNIT_S))


def next_ids(stage: Lone) -> Optional[Tuple[int, int]]:
    """Where the next piece begins, and of how many works it is."""
    hint = stage.device.upcoming()
    return None if hint is None else (hint.segment.first, len(hint.payloads))


def test_a_work_stays_while_its_next_segment_is_here_and_leaves_with_its_answer() -> None:
    stage = Lone()
    assert stage.device.leaves() == ()
    stage.submit("a")
    seen: List[Tuple[bool, ...]] = [stage.device.leaves()]
    for _ in range(3):
        stage.infer()
        seen.append(stage.device.leaves())
    assert seen == [(False,), (False,), (False,), (True,)]


def test_a_work_leaves_where_nothing_here_goes_on_with_it_or_another_device_has_been_asked() -> None:
    stage = Lone(units=[0, 1])
    stage.submit("a")
    stage.infer()
    assert stage.device.leaves() == (True,)
    stage = Lone()
    stage.offers("d1", 1)
    stage.submit("a")
    assert stage.device.leaves() == (True,)


def test_each_work_of_a_batch_has_its_own_way() -> None:
    stage = Lone(limits=Limits(works_ahead_max=6, outputs_max=12), batch_seconds=BOTH)
    for id in "abcde":
        stage.submit(id)
    stage.infer()  # of a, which goes on here
    assert (stage.device.leaves(), next_ids(stage)) == ((False,), (0, 4))
    for _ in range(3):
        stage.infer()
    assert stage.device.leaves() == (False,) * 4


def test_the_next_piece_is_what_would_be_started_now_and_nothing_while_the_executor_is_idle() -> None:
    stage = Lone()
    assert next_ids(stage) is None
    stage.submit("a")
    assert next_ids(stage) is None
    stage.submit("b")
    hint = stage.device.upcoming()
    assert hint is not None and (hint.segment, hint.payloads) == (Segment("net", 0, 1), ("input",))
    for _ in range(3):
        stage.infer()
        assert next_ids(stage) == (0, 1)  # b's turn comes when a has ended
    stage.infer()
    assert next_ids(stage) is None


def test_asking_for_hints_changes_nothing() -> None:
    def play(asks: bool) -> List[List[AnyInstruction]]:
        stage, said = Lone(batch_seconds=BOTH), []
        for step, id in enumerate("abcdefgh"):
            said.append(stage.submit(id, source="gate" if step % 3 == 2 else "yard"))
            for _ in range(2):
                if asks:
                    stage.device.upcoming()
                    stage.device.leaves()
                compute = stage.device.placing.compute
                if len(compute.batch) == 1:
                    said.append(stage.infer())
                elif compute.batch:
                    stage.now += UNIT_S
                    ends = tuple(ev.Outcome(held.key, "tensor", 1000) for held in compute.batch)
                    said.append(stage.feed(ev.InferredTogether(ends, UNIT_S)))
        return said

    assert play(asks=True) == play(asks=False)
