"""What stays on the device, what is sent there ahead, and what happens when places are few."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, List, Mapping, Optional

import numpy as np
import pytest

from pamdi.core.errors import BadInput
from pamdi.core.segment import Segment
from pamdi.engines.device_memory import Pinned
from pamdi.engines.manifest import TensorInfo
from pamdi.engines.resident import Buffer, Place, Slice
from pamdi.engines.tensorrt_backend import PLACES
from pamdi.engines.tensorrt_inputs import lying_together
from tests.tensorrt.fake_backend import FakeTensorRTBackend
from tests.tensorrt.test_tensorrt_backend import MODEL, STORE, bytes_of, floats, image, whole_chain


def test_an_answer_that_goes_on_here_is_never_copied_and_one_that_was_read_is_copied_in_again() -> None:
    backend, again = FakeTensorRTBackend(), FakeTensorRTBackend()
    tensors: Mapping[str, "np.ndarray"] = {"image": image(3)}
    copied = tensors
    for handle, other in zip(whole_chain(backend), whole_chain(again)):
        tensors = backend.run(handle, tensors)
        copied = again.run(other, {name: array.copy() for name, array in copied.items()})
    assert bytes_of(tensors) == bytes_of(copied)
    assert [way for way, _ in backend.memory.copies] == ["in", "out"]
    assert [way for way, _ in again.memory.copies] == ["in", "out"] * 4


def test_works_that_wait_between_two_segments_keep_their_places_as_long_as_there_are_some() -> None:
    """The last ones stay on the device; what had to make room comes from the host; every one is itself."""
    backend = FakeTensorRTBackend()
    first, second, *_ = whole_chain(backend)
    works = [{"image": image(6)[i : i + 1]} for i in range(6)]
    alone = [bytes_of(backend.run(second, backend.run(first, work))) for work in works]
    backend.memory.copies.clear()
    waiting = [backend.run(first, work, urgent=number > 3) for number, work in enumerate(works)]
    assert [way for way, _ in backend.memory.copies] == ["in"] * 3 + ["out", "in"] * 3
    assert backend.counters["answers_moved_to_host"] == len(works) - PLACES
    assert [answer.on_host for answer in waiting] == [True] * 3 + [False] * 3
    backend.memory.copies.clear()
    assert [bytes_of(backend.run(second, answer)) for answer in waiting] == alone
    assert [way for way, _ in backend.memory.copies] == ["in", "out"] * 3 + ["out"] * 3


def test_a_place_is_free_as_soon_as_nobody_holds_what_lies_in_it() -> None:
    backend = FakeTensorRTBackend()
    first, second, *_ = whole_chain(backend)
    for number in range(12):
        answer = backend.run(first, {"image": image(1)})
        assert sum(bool(place.lent_to()) for place in first.places) == 1
        if number % 2:
            answer = backend.run(second, answer)
            assert not any(place.lent_to() for place in first.places)
        del answer
        assert not any(place.lent_to() for handle in (first, second) for place in handle.places)
    assert backend.counters["answers_moved_to_host"] == 0


def test_an_answer_on_its_way_to_the_host_is_not_overtaken_by_the_next_in_its_place() -> None:
    """It was brought and then dropped: its copy must be over before another run writes where it lay."""
    backend = FakeTensorRTBackend(with_graphs=False)
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    expected = bytes_of(backend.run(handle, {"image": image(2)[1:]}))
    backend.run(handle, {"image": image(2)[:1]}).bring()
    backend.memory.done.clear()
    answer = backend.run(handle, {"image": image(2)[1:]})
    assert backend.memory.done == ["in", "out", "compute"]
    assert bytes_of(answer) == expected


def test_one_answer_may_be_read_by_several_threads_and_is_brought_once() -> None:
    backend = FakeTensorRTBackend()
    answer = backend.run(backend.load(STORE, Segment(MODEL, 0, 1)), {"image": image(2)})
    assert (answer.nbytes, list(answer), len(backend.memory.copies)) == (2 * 16 * 32 * 32 * 4, ["add_256"], 1)
    with ThreadPoolExecutor(8) as readers:
        assert len(set(readers.map(lambda _: bytes_of(answer), range(32)))) == 1
    assert [way for way, _ in backend.memory.copies] == ["in", "out"]


def test_a_work_that_was_prepared_is_in_when_it_begins_and_a_batch_that_begins_with_it_copies_the_rest() -> None:
    backend = FakeTensorRTBackend(with_graphs=False)
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    works = [{"image": image(5)[i : i + 1]} for i in range(5)]
    alone = [bytes_of(backend.run(handle, work)) for work in works]
    backend.memory.copies.clear()
    backend.begin(handle, works[:1])
    backend.prepare(handle, works[1:3])
    with backend.memory.current():
        backend.memory.named(backend._inwards).do()
    assert backend.memory.done[-2:] == ["in", "in"]  # both before the first has computed
    backend.prepare(handle, works[1:3])  # said again: nothing new
    answers = backend.finish()
    backend.begin(handle, works[1:4])
    answers += backend.finish()
    assert [nbytes // works[0]["image"].nbytes for _, nbytes in backend.memory.copies] == [1, 2, 1]
    assert backend.counters["inputs_prepared"] == 2
    for answer, expected in zip(answers, alone):
        np.testing.assert_allclose(floats(answer), np.frombuffer(expected, np.float32), rtol=1e-5, atol=1e-5)


def test_a_work_that_comes_instead_of_the_one_prepared_runs_as_if_nothing_had_been_said() -> None:
    backend = FakeTensorRTBackend(with_graphs=False)
    handles = [backend.load(STORE, Segment(MODEL, 0, 1)) for _ in range(2)]
    works = [{"image": image(4)[i : i + 1]} for i in range(4)]
    alone = [bytes_of(backend.run(handles[0], work)) for work in works]
    for number in range(4):
        backend.prepare(handles[0], [works[number - 1]])
        assert bytes_of(backend.run(handles[number % 2], works[number], urgent=number > 2)) == alone[number]
        backend.prepare(handles[number % 2], [works[number - 2]])
    assert [sum(bool(inputs.works) for inputs in handle.inputs) for handle in handles] == [0, 1]  # one hint in all
    with pytest.raises(BadInput, match="expected"):
        backend.prepare(handles[0], [{"picture": image(1)}])


def test_a_batch_goes_on_as_it_lies_and_another_one_is_put_together_on_the_device() -> None:
    backend = FakeTensorRTBackend()
    first, second, *_ = whole_chain(backend)
    works = [{"image": image(6)[i : i + 1]} for i in range(6)]
    alone = [floats(backend.run(second, backend.run(first, work))) for work in works]
    made = [answer for answer in backend.run_together(first, works[:4]) if not isinstance(answer, Exception)]
    made.append(backend.run(first, works[4]))
    fetched = backend.run(first, works[5])
    fetched.host()
    backend.memory.copies.clear()
    orders = ([0, 1, 2, 3], [1, 2], [2, 1, 4], [0, 5])
    each = 16 * 32 * 32 * 4
    copies: List[Any] = [[], [], [("across", each)] * 3, [("across", each), ("in", each)]]
    for order, expected in zip(orders, copies):
        together = backend.run_together(second, [[*made, fetched][i] for i in order])
        assert backend.memory.copies == expected, order
        for number, answer in zip(order, together):
            assert not isinstance(answer, Exception)
            np.testing.assert_allclose(floats(answer), alone[number], rtol=1e-5, atol=1e-5)
        backend.memory.copies.clear()


@pytest.mark.parametrize(
    ("item", "lie", "at"),
    [
        (64, [(0, 1), (1, 2), (3, 1)], 0),
        (64, [(1, 2), (3, 1)], 256),
        (64, [(1, 1), (0, 1)], None),  # not in this order
        (64, [(0, 1), (2, 1)], None),  # with a gap
        (10, [(0, 1), (1, 1)], 0),
        (10, [(1, 1), (2, 1)], None),  # not at an address that TensorRT takes
    ],
)
def test_parts_are_read_where_they_lie_if_they_lie_behind_each_other_at_an_aligned_address(
    item: int, lie: List["tuple[int, int]"], at: Optional[int]
) -> None:
    buffer = Buffer(TensorInfo("x", "float32", ("batch", item)), 1 << 20, Pinned(None, None))
    place = Place({"x": buffer}, 0, 0)
    parts: List[Any] = [Slice(place, buffer, first, size) for first, size in lie]
    assert lying_together(parts) == (0 if at is None else buffer.address + at)
    assert lying_together([*parts, np.zeros((1, item), np.float32)]) == 0
    other = Buffer(buffer.info, 2 << 20, buffer.pinned)
    assert lying_together([*parts, Slice(place, other, sum(lie[-1]), 1)]) == 0


def test_a_place_that_a_run_in_flight_reads_is_no_other_runs_even_if_its_answer_was_read_meanwhile() -> None:
    """What goes around an engine lies there still when the run is finished."""
    backend = FakeTensorRTBackend()
    first, second, *_ = whole_chain(backend)
    answer = backend.run(first, {"image": image(1)})
    backend.begin(second, [answer])
    answer.host()
    assert not any(place.lent_to() for place in first.places)
    backend.begin(first, [{"image": image(1)}])
    assert id(backend._flights[1].place) not in backend._flights[0].reads
    assert len(backend.finish() + backend.finish()) == 2
