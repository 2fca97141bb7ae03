"""A link as one server of frames: computed in leaps, equal to what a frame-by-frame link does."""

import random
from typing import Any, Dict, List

import pytest

from pamdi.simulator.heap import Heap
from pamdi.simulator.server import FRAME_BYTES, Line, Server, Transfer
from tests.simulator.naive_link import Message, ends

CONTROL = float("inf")


def in_leaps(messages: List[Message]) -> Dict[int, float]:
    heap = Heap()
    server = Server(heap)
    lines = {message.rate: Line("a", "b", message.rate, 0.0, server) for message in messages}
    left_at: Dict[int, float] = {}

    def comes(message: Message) -> None:
        line = lines[message.rate]
        if message.urgency == CONTROL:
            left_at[message.name] = server.say(line, message.nbytes)
        else:
            server.put(Transfer(line, message.nbytes, message.urgency, leaves, lambda _: True, message.name))

    def leaves(transfer: Transfer) -> None:
        left_at[transfer.parcel] = heap.now

    for message in messages:
        heap.put(message.at, comes, message)
    heap.run(1e9, lambda: False)
    return left_at


def random_messages(seed: int) -> List[Message]:
    drawn = random.Random(seed)
    rates = drawn.choice([[2.5e6], [2.5e6, 1e6, 6e6]])
    return [
        Message(
            drawn.uniform(0, 2.0), name, drawn.choice([drawn.randrange(1, 400_000), FRAME_BYTES, 3 * FRAME_BYTES]),
            drawn.choice([1.0, 1.0, 2.0, 10.0]), drawn.choice(rates),
        )
        if drawn.random() < 0.4
        else Message(drawn.uniform(0, 2.0), name, drawn.randrange(40, 400), CONTROL, drawn.choice(rates))
        for name in range(80)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_leaps_end_when_frames_end(seed: int) -> None:
    messages = random_messages(seed)
    assert in_leaps(messages) == pytest.approx(ends(messages), abs=1e-9)


def test_an_urgent_tensor_overtakes_between_two_frames_and_the_normal_one_goes_on() -> None:
    frame_s = FRAME_BYTES / 1e6
    normal = Message(0.0, 1, 10 * FRAME_BYTES, 1.0, 1e6)
    urgent = Message(0.5 * frame_s, 2, 2 * FRAME_BYTES, 10.0, 1e6)
    assert in_leaps([normal, urgent]) == pytest.approx({2: 3 * frame_s, 1: 12 * frame_s})


def test_a_message_without_a_payload_waits_for_one_frame_at_most() -> None:
    tensor = Message(0.0, 1, 10 * FRAME_BYTES, 10.0, 1e6)
    word = Message(0.1 * FRAME_BYTES / 1e6, 2, 100, CONTROL, 1e6)
    assert in_leaps([tensor, word])[2] == pytest.approx(FRAME_BYTES / 1e6 + 100 / 1e6)


def test_a_rate_that_changes_counts_from_the_next_frame_on() -> None:
    heap = Heap()
    server = Server(heap)
    line = Line("a", "b", 1e6, 0.0, server)
    ended: List[float] = []
    server.put(Transfer(line, 4 * FRAME_BYTES, 1.0, lambda t: ended.append(heap.now), lambda _: True, None))
    heap.put(1.5 * FRAME_BYTES / 1e6, lambda _: server.rate_changes(line, 0.5e6))
    heap.run(10.0, lambda: False)
    assert ended == pytest.approx([2 * FRAME_BYTES / 1e6 + 2 * FRAME_BYTES / 0.5e6])


def test_what_a_broken_connection_was_sending_frees_the_line_at_the_next_frames_end() -> None:
    heap = Heap()
    server = Server(heap)
    line = Line("a", "b", 1e6, 0.0, server)
    dead: List[int] = []
    ended: Dict[str, float] = {}

    def put(name: str, frames: int) -> None:
        server.put(
            Transfer(line, frames * FRAME_BYTES, 1.0, lambda t: ended.update({name: heap.now}),
                     lambda parcel: parcel not in dead, len(name))
        )  # fmt: skip

    def breaks(_: Any) -> None:
        dead.extend([1, 2])
        server.drop_dead()

    put("a", 10)
    put("bb", 10)
    put("ccc", 1)
    heap.put(1.5 * FRAME_BYTES / 1e6, breaks)
    heap.run(10.0, lambda: False)
    assert ended == pytest.approx({"ccc": 3 * FRAME_BYTES / 1e6})
    assert server.busy_s == pytest.approx(3 * FRAME_BYTES / 1e6)
