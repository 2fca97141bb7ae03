"""Frames: the most urgent first at every frame, whole messages whatever the chunks, claims checked before memory."""

import random
from typing import List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pamdi.core.errors import BadInput
from pamdi.daemon.frames import (
    FIRST,
    FRAME,
    FRAME_BYTES,
    LAST,
    OPENING,
    PING,
    PONG,
    STREAMS_MAX,
    FrameReader,
    FrameWriter,
)  # fmt: skip


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


def test_a_queue_of_small_messages_is_bounded_by_their_number() -> None:
    writer = FrameWriter(10**9, messages_max=3)
    assert [writer.put([memoryview(b"x")], 1.0, 0.0) for _ in range(4)] == [True, True, True, False]
    writer.next_frame(0.0)
    assert writer.put([memoryview(b"x")], 1.0, 0.0)


def test_unfinished_messages_may_claim_only_so_much_together() -> None:
    reader = FrameReader(1000, claimed_bytes_max=1500)
    assert reader.feed(memoryview(opening(1, 799)), 0.0) == []
    claim = OPENING.pack(1, 799, 0.0)
    with pytest.raises(BadInput, match="unfinished messages claim 1600 bytes; the limit is 1500"):
        reader.feed(memoryview(FRAME.pack(len(claim), FIRST, 2) + claim), 0.0)


def test_streams_that_stay_open_are_bounded() -> None:
    reader = FrameReader(1000)
    claim = OPENING.pack(1, 0, 0.0)
    for stream in range(STREAMS_MAX):
        reader.feed(memoryview(FRAME.pack(len(claim), FIRST, stream) + claim), 0.0)
    with pytest.raises(BadInput, match="stream 5000 cannot be opened"):
        reader.feed(memoryview(FRAME.pack(len(claim), FIRST, 5000) + claim), 0.0)


@given(st.integers(1, 200))
def test_a_body_begins_aligned_whatever_its_header(header: int) -> None:
    writer, reader = FrameWriter(10**6), FrameReader(10**6)
    writer.put([memoryview(bytes(header)), memoryview(bytes(64))], 1.0, 0.0)
    message = reader.feed(memoryview(b"".join(writer.next_frame(0.0))), 0.0)[0]
    assert np.frombuffer(message.body, np.float64).flags.aligned and len(message.header) == header


def test_pings_pass_through_a_half_open_stream_with_their_numbers() -> None:
    reader = FrameReader(1000)
    data = opening(1, 1) + FRAME.pack(0, PING, 7) + FRAME.pack(0, PONG, 8) + FRAME.pack(2, LAST, 1) + b"hb"
    got = reader.feed(memoryview(data), 0.0)
    assert reader.pings == [(PING, 7), (PONG, 8)] and [(m.header, bytes(m.body)) for m in got] == [(b"h", b"b")]


@settings(deadline=None)
@given(st.data())
def test_streams_woven_in_any_order_and_cut_anywhere_come_out_whole(data: st.DataObject) -> None:
    """The reader does not rely on our own writer's order: frames of all streams are shuffled into one another."""
    bodies = data.draw(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
    queues = []
    for number, body in enumerate(bodies):
        pieces = [body[at : at + 50] for at in range(0, len(body), 50)] or [b""]
        pieces[0] = OPENING.pack(3, len(body), 0.5) + b"h%02d" % number + pieces[0]
        last = len(pieces) - 1
        flags = [(FIRST if i == 0 else 0) | (LAST if i == last else 0) for i in range(len(pieces))]
        queues.append([FRAME.pack(len(p), f, number) + p for p, f in zip(pieces, flags)])
    stream = b""
    while any(queues):
        stream += data.draw(st.sampled_from([queue for queue in queues if queue])).pop(0)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=20)) | {0, len(stream)})
    reader = FrameReader(10**6)
    got = [m for at, to in zip(cuts, cuts[1:]) for m in reader.feed(memoryview(stream[at:to]), 0.0)]
    assert sorted((m.header, bytes(m.body)) for m in got) == [(b"h%02d" % i, body) for i, body in enumerate(bodies)]
