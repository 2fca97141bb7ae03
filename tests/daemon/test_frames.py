"""Frames: the most urgent first at every frame, whole messages whatever the chunks, claims checked before memory."""

import random
from typing import List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pamdi.core.errors import BadInput
from pamdi.daemon.frames import FIRST, FRAME, FRAME_BYTES, LAST, OPENING, FrameReader, FrameWriter


def drain(writer: FrameWriter) -> List[bytes]:
    frames = []
    while writer:
        frames.append(b"".join(writer.next_frame(0.0)))
    return frames


@settings(deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 300), st.integers(0, 70_000), st.floats(0, 10)), max_size=8),
    seed=st.integers(),
)
def test_messages_arrive_whole_in_any_interleaving_and_any_chunks(
    sizes: "list[tuple[int, int, float]]", seed: int
) -> None:
    drawn = random.Random(seed)
    writer, reader = FrameWriter(10**9), FrameReader(10**6)
    sent = set()
    for i, (header, body, urgency) in enumerate(sizes):
        parts = [bytes([i]) * header, drawn.randbytes(body) if hasattr(drawn, "randbytes") else bytes(body)]
        sent.add((parts[0], parts[1]))
        writer.put([memoryview(part) for part in parts], urgency, 0.0)
    stream = b"".join(drain(writer))
    got = []
    at = 0
    while at < len(stream):
        step = drawn.randint(1, 40_000)
        got += reader.feed(memoryview(stream[at : at + step]), 1.0)
        at += step
    assert {(m.header, bytes(m.body)) for m in got} == sent and len(got) == len(sizes)
    assert writer.bytes_waiting == 0


def test_an_urgent_kilobyte_overtakes_normal_megabytes_at_the_next_frame() -> None:
    writer, reader = FrameWriter(10**9), FrameReader(10**7)
    for _ in range(4):
        writer.put([memoryview(b"normal"), memoryview(bytes(3_200_000))], 1.0, 0.0)
    first = b"".join(writer.next_frame(0.0))
    writer.put([memoryview(b"urgent"), memoryview(bytes(1000))], 10.0, 0.0)
    second = b"".join(writer.next_frame(0.0))
    assert reader.feed(memoryview(first), 0.0) == []
    assert [m.header for m in reader.feed(memoryview(second), 0.0)] == [b"urgent"]


def test_a_started_message_goes_on_where_it_stopped() -> None:
    writer, reader = FrameWriter(10**9), FrameReader(10**7)
    body = bytes(range(256)) * 400
    writer.put([memoryview(b"normal"), memoryview(body)], 1.0, 0.0)
    frames = [b"".join(writer.next_frame(0.0))]
    writer.put([memoryview(b"urgent")], float("inf"), 0.0)
    frames += drain(writer)
    got = [m for frame in frames for m in reader.feed(memoryview(frame), 0.0)]
    assert [(m.header, bytes(m.body)) for m in got] == [(b"urgent", b""), (b"normal", body)]


def test_the_time_a_message_waited_travels_with_it() -> None:
    writer, reader = FrameWriter(10**9), FrameReader(10**6)
    writer.put([memoryview(b"header")], 1.0, 10.0)
    message = reader.feed(memoryview(b"".join(writer.next_frame(10.25))), 99.0)[0]
    assert (message.waited_s, message.first_at) == (0.25, 99.0)


def test_a_queue_beyond_its_bound_refuses_and_keeps_what_it_has() -> None:
    writer = FrameWriter(1000)
    assert writer.put([memoryview(bytes(900))], 1.0, 0.0)
    assert not writer.put([memoryview(bytes(200))], 10.0, 0.0)
    assert writer.bytes_waiting == 900 and len(drain(writer)) == 1


def opening(header: int, body: int, waited: float = 0.0) -> bytes:
    claim = OPENING.pack(header, body, waited)
    return FRAME.pack(len(claim), FIRST, 1) + claim


@pytest.mark.parametrize(
    "frame",
    [
        opening(10, 2**62),
        opening(2**31, 0),
        opening(10, 10, float("nan")),
        opening(10, 10, -1.0),
        FRAME.pack(FRAME_BYTES + 1, 0, 1),
        FRAME.pack(3, 0, 7) + b"abc",
        FRAME.pack(2, FIRST, 1) + b"ab",
        opening(1, 1) + FRAME.pack(5, 0, 1) + b"12345",
        opening(5, 5) + FRAME.pack(1, LAST, 1) + b"1",
        opening(1, 1) + opening(1, 1),
    ],
)
def test_what_is_no_frame_of_ours_or_claims_too_much_ends_the_link(frame: bytes) -> None:
    with pytest.raises(BadInput):
        FrameReader(10**6).feed(memoryview(frame), 0.0)


def test_random_bytes_end_in_an_error_or_in_nothing() -> None:
    drawn = random.Random(7)
    for _ in range(3000):
        reader = FrameReader(10**5)
        data = bytes(drawn.getrandbits(8) for _ in range(drawn.randint(1, 64)))
        try:
            assert reader.feed(memoryview(data), 0.0) == []
        except BadInput:
            continue
