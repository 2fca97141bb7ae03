"""What a bad, slow or strange peer can do to a link: be turned away, be cut off, be counted. Nothing grows, nothing
dies, and the others do not notice."""

import asyncio
import contextlib
import random
import struct
import time
from typing import Any, Callable, List, Optional

import msgspec
import numpy as np
import pytest
import uvloop

from pamdi.core import messages as ms
from pamdi.core.allocation import Neighbour
from pamdi.core.errors import ConfigError
from pamdi.core.events import LinkDown, LinkUp
from pamdi.core.tensors import TensorSpec
from pamdi.core.work import Work
from pamdi.daemon import links as links_module
from pamdi.daemon import words
from pamdi.daemon.frames import FIRST, FRAME, LAST, OPENING, PING
from pamdi.daemon.link import LinkOptions
from tests.daemon.test_links import KEY, End, close, pair, tensor


def hello(device: str = "z", instance: int = 5, version: int = 1, more: bytes = b"") -> bytes:
    text = b'{"pamdi": %d, "device": "%s", "instance": %d%s}' % (version, device.encode(), instance, more)
    return struct.pack("<I", len(text)) + text


def message(header: bytes, body: bytes = b"") -> bytes:
    data = OPENING.pack(len(header), len(body), 0.0) + header + body
    return FRAME.pack(len(data), FIRST | LAST, 1) + data


class Stranger:
    """Somebody at the other end of a bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def at(cls, end: End, says: bytes = b"") -> "Stranger":
        self = cls(*await asyncio.open_connection("127.0.0.1", end.links.port))
        self.writer.write(says)
        return self

    async def is_cut_off(self) -> None:
        try:
            while await asyncio.wait_for(self.reader.read(65536), 60.0):
                continue
        except ConnectionError:
            pass
        self.writer.close()


class Heard(End):
    """An end whose log is kept."""

    def __init__(self, id: str, options: Optional[LinkOptions]) -> None:
        super().__init__(id, 1, options)
        self.lines: List[str] = []
        self.links.log = self.lines.append


async def listening(options: Optional[LinkOptions] = None, id: str = "a") -> Heard:
    end = Heard(id, options)
    await end.links.listen("127.0.0.1", 0)
    return end


@pytest.mark.parametrize(
    ("greeting", "line"),
    [
        (hello(version=2), "z speaks protocol 2, we speak 1: update the older one"),
        (hello(device="a"), "a is this device's own id"),
        (hello(device="../z"), "no valid device id"),
        (hello(more=b', "more": ' + b"[" * 1500 + b"]" * 1500), "cannot be read"),
        (hello(more=b', "instance": 1e400'), "cannot be read"),
        (struct.pack("<I", 4097), "claims 4097 bytes: not a pamdi device"),
    ],
)
async def test_who_is_turned_away_is_told_in_one_line_once(greeting: bytes, line: str) -> None:
    a = await listening()
    for _ in range(3):
        await (await Stranger.at(a, greeting)).is_cut_off()
    assert len(a.lines) == 1 and line in a.lines[0] and a.events == [] and a.links.refusals == 3
    await close(a)


async def test_a_greeting_with_more_fields_than_ours_is_understood() -> None:
    a = await listening()
    z = await Stranger.at(a, hello(more=b', "codec": ["int8"]'))
    await a.until(lambda events: events == [LinkUp("z", 5)])
    z.writer.close()
    await close(a)


async def test_who_says_nothing_is_cut_off() -> None:
    a = await listening(LinkOptions(greeting_s_max=0.05))
    await (await Stranger.at(a)).is_cut_off()
    assert "no greeting within 0.05 s" in a.lines[0]
    await close(a)


async def test_who_drips_its_greeting_is_cut_off_in_the_same_time() -> None:
    a = await listening(LinkOptions(greeting_s_max=0.05))
    stranger = await Stranger.at(a, struct.pack("<I", 4000))

    async def drip() -> None:
        with contextlib.suppress(OSError):
            while not stranger.writer.is_closing():
                stranger.writer.write(b" ")
                await asyncio.sleep(0.01)

    dripping = asyncio.ensure_future(drip())
    await stranger.is_cut_off()
    await dripping
    assert a.events == [] and "no greeting within" in a.lines[0]
    await close(a)


async def test_a_new_life_replaces_the_old_while_its_connection_still_stands() -> None:
    a = await listening()
    old = await Stranger.at(a, hello(instance=5))
    await a.until(lambda events: len(events) == 1)
    new = await Stranger.at(a, hello(instance=6) + message(ms.encode(ms.Taken(KEY))))
    await a.until(lambda events: len(events) == 4)
    assert a.events[:3] == [LinkUp("z", 5), LinkDown("z"), LinkUp("z", 6)] and a.events[3].message == ms.Taken(KEY)
    await old.is_cut_off()
    new.writer.close()
    await close(a)


async def test_another_device_at_the_address_is_not_taken_for_the_neighbour() -> None:
    a, b = await listening(), await listening(id="b")
    a.links.set_neighbours((Neighbour("c", "127.0.0.1", b.links.port),))
    await b.until(lambda events: LinkDown("a") in events)
    assert "b answers there, not c" in a.lines[0] and a.events == []
    await close(a, b)


async def test_an_address_that_cannot_be_dialled_is_said_once_and_tried_again() -> None:
    a = await listening()
    a.links.set_neighbours((Neighbour("b", "127.0.0.1", 70_000), Neighbour("c", "x" * 80 + ".y", 1)))
    while len(a.lines) < 2:
        await asyncio.sleep(0)
    assert sorted(line.split(":")[0] for line in a.lines) == [
        "cannot dial b at 127.0.0.1", f"cannot dial c at {'x' * 80}.y",
    ]  # fmt: skip
    await close(a)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("192.0.2.1", 0)])
async def test_an_address_that_cannot_be_listened_on_is_one_clear_line(host: str, port: int) -> None:
    with pytest.raises(ConfigError, match=rf"cannot listen on {host}:{port}: .*: check \[listen\] host and port$"):
        await End("a", 1).links.listen(host, port)


async def test_connections_beyond_the_limit_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "ACCEPTED_MAX", 2)
    a = await listening()
    two = [await Stranger.at(a, hello(name)) for name in ("y", "z")]
    await a.until(lambda events: len(events) == 2)
    await (await Stranger.at(a, hello("x"))).is_cut_off()
    assert "2 connections are the limit" in a.lines[-1] and len(a.events) == 2
    two[0].writer.close()
    await a.until(lambda events: LinkDown("y") in events)
    again = await Stranger.at(a, hello("x"))
    await a.until(lambda events: LinkUp("x", 5) in events)
    a.links.set_neighbours((Neighbour("A", "127.0.0.1", 1), Neighbour("b", "127.0.0.1", 1)))  # A dials us, we dial b
    neighbour = await Stranger.at(a, hello("A"))
    await a.until(lambda events: LinkUp("A", 5) in events)
    for stranger in (two[1], again, neighbour):
        stranger.writer.close()
    await close(a)


async def test_a_huge_claim_ends_the_link_before_memory_is_taken() -> None:
    a = await listening(LinkOptions(message_bytes_max=10**6))
    claim = OPENING.pack(10, 2**40, 0.0)
    z = await Stranger.at(a, hello() + FRAME.pack(len(claim), FIRST, 1) + claim)
    await z.is_cut_off()
    assert a.events == [LinkUp("z", 5), LinkDown("z")]
    assert "a message claims 1099511627786 bytes; the limit is 2048576" in a.lines[-1]
    await close(a)


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (b"\x81\xa4type\xa6Gossip", b""),
        (b"", b""),
        (b"\xc1", b""),
        (b"\x82\xa4type\xa5Taken\xa4more" + b"\x91" * 5000 + b"\x90", b""),
        (ms.encode(ms.Tensor(Work(KEY, "m", "a", 1.0, 0.0), (TensorSpec("x", "float32", (0, 2**62, 2**62)),))), b""),
        (ms.encode(ms.Tensor(Work(KEY, "m", "a", 1.0, 0.0), (TensorSpec("x", "float32", (2,)),))), b"1234"),
        (ms.encode(ms.Tensor(Work(KEY, "m", "a", 1.0, 0.0))), b"1234"),
    ],
    ids=["unknown tag", "empty", "not msgpack", "deep", "huge shape", "short body", "body without specs"],
)
async def test_a_message_that_cannot_be_understood_is_counted_and_the_link_stays(header: bytes, body: bytes) -> None:
    a = await listening()
    z = await Stranger.at(a, hello() + message(header, body) + message(ms.encode(ms.Taken(KEY))))
    await a.until(lambda events: len(events) == 2)
    assert a.events[1].message == ms.Taken(KEY) and a.links.counters()["z"]["unknown"] == 1
    heard = await z.reader.readuntil(b"Withdrawn")  # the last by name of what we know
    assert b"Understood" in heard and all(kind.encode() in heard for kind in words.KINDS)
    z.writer.close()
    await close(a)


async def test_what_is_not_understood_is_answered_once_per_link_and_told_to_a_person_once() -> None:
    """Once, so that two who do not understand each other's answers do not go on for ever."""
    a = await listening()
    z = await Stranger.at(a, hello() + 3 * message(msgspec.msgpack.encode({"type": "FromTheFuture"})))
    older = words.Understood(tuple(kind for kind in sorted(words.KINDS) if kind not in ("Probe", "Where")))
    z.writer.write(message(msgspec.msgpack.encode(older)) * 2 + message(ms.encode(ms.Taken(KEY))))
    await a.until(lambda events: len(events) == 2)
    assert a.links.counters()["z"]["unknown"] == 3 and a.links.counters()["z"]["messages_out"] == 1
    assert a.lines == ["link to z is up", "z does not understand Probe, Where: it is of an older version, update it"]
    z.writer.close()
    await close(a)


async def test_a_peer_that_reads_nothing_fills_a_bounded_queue_and_is_cut_off() -> None:
    options = LinkOptions(queue_bytes_max=2_000_000, ping_every_s=0.05, stalled_s_max=0.4)
    a = await listening(options)
    dropped: List[int] = []
    a.links.on_overflow = lambda peer, nbytes: dropped.append(nbytes)
    z = await Stranger.at(a, hello())
    z.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await a.until(lambda events: len(events) == 1)
    while a.links.send("z", *tensor(1.0, 100_000), 1.0):
        await asyncio.sleep(0)
    counters = a.links.counters()["z"]
    assert counters["bytes_waiting"] <= 2_000_000 and counters["overflows"] == 1 and dropped == [400_000]
    held = a.links._links["z"]._transport.get_write_buffer_size
    for number in range(20_000):  # it talks all the while, so it is not silent; nor may its pings make pongs pile up
        z.writer.write(FRAME.pack(0, PING, number))
    while LinkDown("z") not in a.events:
        assert held() < 40_000
        await asyncio.sleep(0)
    assert "has taken nothing" in a.lines[-1]
    z.writer.close()
    await close(a)


async def test_a_message_beyond_the_size_limit_is_dropped_here_not_at_the_peer() -> None:
    a, b = await pair(LinkOptions(message_bytes_max=1000))
    assert not a.links.send("b", *tensor(1.0, 251), 1.0)
    assert not a.links.send("b", ms.Tensor(Work(KEY, "m", "a", 1.0, 0.0)), {"x": np.array([None])}, 1.0)
    assert a.links.send("b", *tensor(1.0, 250), 1.0)
    await b.until(lambda events: len(events) == 2)
    assert a.links.counters()["b"]["overflows"] == 1
    await close(a, b)


async def test_thousands_of_random_strangers_disturb_nobody() -> None:
    a, b = await pair()
    drawn = random.Random(11)
    for i in range(2000):
        noise = bytes(drawn.getrandbits(8) for _ in range(drawn.randint(0, 60)))
        flags = FRAME.pack(drawn.randint(0, 64), drawn.randint(0, 15), drawn.randint(0, 3))
        z = await Stranger.at(a, (b"", hello(), hello() + flags)[i % 3] + noise)
        z.writer.write_eof()
        await z.is_cut_off()
    assert a.links.send("b", ms.Taken(KEY)) and b.links.send("a", *tensor(1.0, 10), 1.0)
    await b.until(lambda events: len(events) == 2)
    await a.until(lambda events: getattr(events[-1], "peer", "") == "b")
    assert len([event for event in b.events if isinstance(event, LinkDown)]) == 0
    await close(a, b)


async def test_random_messages_inside_good_frames_disturb_nobody() -> None:
    a = await listening()
    drawn = random.Random(12)
    sound = [ms.encode(ms.Taken(KEY)), ms.encode(tensor(1.0, 1)[0]), ms.encode(ms.Beacon("z"))]
    z = await Stranger.at(a, hello())
    for _ in range(5000):
        header = bytearray(drawn.choice(sound))
        for _ in range(drawn.randint(1, 4)):
            header[drawn.randrange(len(header))] = drawn.getrandbits(8)
        z.writer.write(message(bytes(header), bytes(drawn.choice((0, 4)))))
    z.writer.write(message(ms.encode(ms.Withdrawn(KEY))))
    await a.until(lambda events: bool(events) and getattr(events[-1], "message", None) == ms.Withdrawn(KEY))
    assert LinkDown("z") not in a.events and a.links.counters()["z"]["unknown"] > 1000
    z.writer.close()
    await close(a)


async def test_four_large_normal_tensors_do_not_hold_up_an_urgent_kilobyte() -> None:
    """On a link of 100 Mb/s: what arrives before it is what had left when it came. A machine that sleeps for a moment
    lets a burst follow, hence a megabyte of grace; first in, first out would be 13."""
    a, b = await pair(LinkOptions(rate_bytes_per_s=12_500_000.0))
    for value in range(4):
        assert a.links.send("b", *tensor(value, 800_000), 1.0)
    while a.links.counters()["b"]["bytes_out"] < 1_000_000:  # the first is well on its way
        await asyncio.sleep(0)
    left_bytes = a.links.counters()["b"]["bytes_out"]
    assert left_bytes < 3_000_000
    assert a.links.send("b", *tensor(99.0, 250), 10.0) and a.links.send("b", ms.Taken(KEY))
    await b.until(lambda events: len(events) >= 3)
    received_bytes = b.links.counters()["a"]["bytes_in"]
    assert b.events[1].message == ms.Taken(KEY) and b.events[2].payload["x"][0] == 99.0
    assert left_bytes < received_bytes < left_bytes + 1_000_000
    await b.until(lambda events: len(events) == 7)
    assert [event.payload["x"][0] for event in b.events[3:]] == [0.0, 1.0, 2.0, 3.0]
    assert a.links.counters()["b"]["busy_s"] > 0.5
    await close(a, b)


async def test_emulated_delay_keeps_the_order_and_counts_as_time_on_the_way() -> None:
    a, b = await pair(LinkOptions(delay_s=0.02))
    for value in range(20):
        a.links.send("b", *tensor(value, 5_000), 1.0)
    await b.until(lambda events: len(events) == 21)
    assert [event.payload["x"][0] for event in b.events[1:]] == list(range(20))
    assert all(event.transit_s >= 0.02 for event in b.events[1:])
    await close(a, b)


async def test_time_in_the_senders_queue_counts_as_time_on_the_way() -> None:
    a, b = await pair(LinkOptions(rate_bytes_per_s=10_000_000.0))
    for value in range(3):
        a.links.send("b", *tensor(value, 100_000), 1.0)
    await b.until(lambda events: len(events) == 4)
    transits = [event.transit_s for event in b.events[1:]]
    assert transits == sorted(transits) and transits[2] > 0.08
    await close(a, b)


async def test_closing_lets_what_is_queued_arrive_and_takes_nothing_new() -> None:
    a, b = await pair(LinkOptions(rate_bytes_per_s=20_000_000.0))
    assert a.links.send("b", *tensor(1.0, 500_000), 1.0)
    closing = asyncio.ensure_future(a.links.close(5.0))
    await b.until(lambda events: LinkDown("a") in events)
    await closing
    assert [type(event).__name__ for event in b.events] == ["LinkUp", "Received", "LinkDown"]
    assert b.events[1].nbytes == 2_000_000 and not a.links.send("b", ms.Taken(KEY))
    await close(b)


async def test_closing_ends_in_time_although_the_peer_takes_nothing() -> None:
    a = await listening()
    z = await Stranger.at(a, hello())
    z.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await a.until(lambda events: len(events) == 1)
    for _ in range(5):
        a.links.send("z", *tensor(1.0, 2_000_000), 1.0)
    await asyncio.wait_for(a.links.close(0.1), 60.0)
    assert a.events == [LinkUp("z", 5), LinkDown("z")]
    z.writer.close()


async def test_counters_of_both_ends_agree() -> None:
    began = time.monotonic()
    a, b = await pair()
    for value in range(5):
        a.links.send("b", *tensor(value, 10_000), 1.0)
    await b.until(lambda events: len(events) == 6)
    out, into = a.links.counters()["b"], b.links.counters()["a"]
    assert (out["messages_out"], into["messages_in"], out["bytes_waiting"]) == (5, 5, 0)
    assert 200_000 < out["bytes_out"] <= into["bytes_in"] < out["bytes_out"] + 1000
    assert out["overflows"] == into["unknown"] == 0 and 0 < out["busy_s"] < time.monotonic() - began
    await close(a, b)


@pytest.mark.parametrize(
    "play",
    [
        test_a_new_life_replaces_the_old_while_its_connection_still_stands,
        test_a_peer_that_reads_nothing_fills_a_bounded_queue_and_is_cut_off,
        test_thousands_of_random_strangers_disturb_nobody,
        test_four_large_normal_tensors_do_not_hold_up_an_urgent_kilobyte,
        test_closing_lets_what_is_queued_arrive_and_takes_nothing_new,
        test_closing_ends_in_time_although_the_peer_takes_nothing,
    ],
)
def test_uvloop_too(play: "Callable[[], Any]") -> None:
    """The daemon's own loop: its transports differ in what they buffer, and in when they say stop."""
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(play())
    finally:
        loop.close()
