"""Links between real sockets: one per pair, for one life of each side, never taken down by strangers."""

import asyncio
import json
import socket
import struct
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import pytest

from pamdi.core import messages as ms
from pamdi.core.allocation import Neighbour
from pamdi.core.errors import ConfigError
from pamdi.core.events import LinkDown, LinkUp, Received
from pamdi.core.work import Key, Work
from pamdi.daemon.link import TCP_NOTSENT_LOWAT, LinkOptions
from pamdi.daemon.links import Links

KEY = Key("gate", "w", 0, 0, 1)


class End:
    """One device's links, with what they said."""

    def __init__(self, id: str, instance: int, options: Optional[LinkOptions] = None) -> None:
        self.events: List[Any] = []
        self._more = asyncio.Event()
        self.links = Links(id, instance, self._heard, time.monotonic, options or LinkOptions())

    def _heard(self, event: Any) -> None:
        self.events.append(event)
        self._more.set()

    async def until(self, found: Callable[[List[Any]], bool], within_s: float = 60.0) -> None:
        async def look() -> None:
            while not found(self.events):
                self._more.clear()
                await self._more.wait()

        await asyncio.wait_for(look(), within_s)

    def names(self) -> List[str]:
        return [type(event).__name__ for event in self.events]


async def pair(options: Optional[LinkOptions] = None) -> Tuple[End, End]:
    a, b = End("a", 1, options), End("b", 2, options)
    await a.links.listen("127.0.0.1", 0)
    await b.links.listen("127.0.0.1", 0)
    a.links.set_neighbours((Neighbour("b", "127.0.0.1", b.links.port),))
    b.links.set_neighbours((Neighbour("a", "127.0.0.1", a.links.port),))
    await a.until(lambda events: bool(events))
    await b.until(lambda events: bool(events))
    return a, b


async def test_neither_the_kernel_nor_the_transport_is_a_queue_that_knows_no_urgency() -> None:
    """At both ends: the kernel holds 16 KiB unsent and sends at once, the transport asks for no more than a frame."""
    a, b = await pair()
    for end, peer in ((a, "b"), (b, "a")):
        transport = end.links._links[peer]._transport
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT) == 16 * 1024
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert transport.get_write_buffer_limits() == (0, 0)
    await close(a, b)


async def close(*ends: End) -> None:
    for end in ends:
        await end.links.close(0.1)
    await asyncio.sleep(0.02)


def tensor(value: float, count: int) -> Tuple[ms.Tensor, Dict[str, "np.ndarray"]]:
    return ms.Tensor(Work(KEY, "m", "a", 1.0, 0.0)), {"x": np.full(count, value, np.float32)}


async def test_a_pair_has_one_link_and_each_side_knows_the_others_life() -> None:
    a, b = await pair()
    assert a.events == [LinkUp("b", 2)] and b.events == [LinkUp("a", 1)]
    await close(a, b)


async def test_a_link_that_is_planned_with_anew_stays_up() -> None:
    a, b = await pair()
    a.links.set_neighbours((Neighbour("b", "127.0.0.1", b.links.port, rate_bytes_per_s=5.0, delay_s=1.0),))
    assert a.links.send("b", ms.Taken(KEY))
    await b.until(lambda events: len(events) == 2)
    assert (a.names(), b.names()) == (["LinkUp"], ["LinkUp", "Received"])
    await close(a, b)


async def test_messages_and_tensors_arrive_as_they_were_sent() -> None:
    a, b = await pair()
    message, payload = tensor(1.5, 100_000)
    assert a.links.send("b", ms.Taken(KEY)) and a.links.send("b", message, payload, 1.0)
    await b.until(lambda events: len(events) == 3)
    taken, came = b.events[1:]
    assert taken.message == ms.Taken(KEY) and taken.payload is None
    assert came.message.work == message.work and np.array_equal(came.payload["x"], payload["x"])
    assert came.nbytes == 400_000 and came.transit_s >= 0
    await close(a, b)


async def test_an_urgent_tensor_overtakes_normal_ones_on_a_slow_link() -> None:
    a, b = await pair(LinkOptions(rate_bytes_per_s=12_500_000.0))
    for _ in range(4):
        a.links.send("b", *tensor(1.0, 200_000), 1.0)
    a.links.send("b", *tensor(10.0, 250), 10.0)
    await b.until(lambda events: len(events) == 6)
    assert [float(event.payload["x"][0]) for event in b.events[1:]][0] == 10.0
    await close(a, b)


async def test_a_dead_peer_is_noticed_and_its_next_life_is_another() -> None:
    a, b = await pair()
    port = b.links.port
    await close(b)
    await a.until(lambda events: LinkDown("b") in events)
    again = End("b", 3)
    await again.links.listen("127.0.0.1", port)
    await a.until(lambda events: LinkUp("b", 3) in events)
    assert a.names() == ["LinkUp", "LinkDown", "LinkUp"]
    assert not a.links.send("nobody", ms.Taken(KEY))
    await close(a, again)


async def test_a_silent_peer_is_closed() -> None:
    a = End("a", 1, LinkOptions(ping_every_s=0.05, silent_s_max=0.2))
    await a.links.listen("127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", a.links.port)
    hello = json.dumps({"pamdi": 1, "device": "z", "instance": 5}).encode()
    writer.write(struct.pack("<I", len(hello)) + hello)
    await a.until(lambda events: events == [LinkUp("z", 5), LinkDown("z")])
    writer.close()
    await close(a)


@pytest.mark.parametrize(
    "greeting",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        struct.pack("<I", 2**31),
        struct.pack("<I", 2) + b"{}",
        struct.pack("<I", 4) + b"\xff\xfe\x00\x01",
        struct.pack("<I", 45) + b'{"pamdi": 9, "device": "z", "instance": 1}   ',
    ],
)
async def test_a_stranger_is_shown_the_door_and_the_others_stay(greeting: bytes) -> None:
    a, b = await pair()
    reader, writer = await asyncio.open_connection("127.0.0.1", a.links.port)
    writer.write(greeting)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await asyncio.wait_for(reader.readexactly(10_000), 60.0)
    writer.close()
    assert a.links.send("b", ms.Taken(KEY))
    await b.until(lambda events: len(events) == 2)
    await close(a, b)


async def test_an_unknown_message_is_counted_and_the_link_stays() -> None:
    a, b = await pair()
    link = a.links._links["b"]
    link._writer.put([memoryview(b"\x81\xa4type\xa6Gossip")], 1.0, 0.0)
    link._pump()
    a.links.send("b", ms.Taken(KEY))
    await b.until(lambda events: len(events) == 2)
    assert b.links.counters()["a"]["unknown"] == 1 and isinstance(b.events[1], Received)
    await close(a, b)


async def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{port}.*choose another"):
            await End("a", 1).links.listen("127.0.0.1", port)


async def test_who_was_held_up_itself_calls_nobody_silent() -> None:
    """By a machine that sleeps or is overloaded: what the peers said meanwhile is there to be read, or on its way."""
    a, b = await pair(LinkOptions(ping_every_s=0.05, silent_s_max=0.3, stalled_s_max=0.3))
    for _ in range(3):
        time.sleep(0.6)  # noqa: ASYNC251 both ends are held up
        heard = [end.links.counters()[peer]["rtt_s"] for end, peer in ((a, "b"), (b, "a"))]
        await asyncio.sleep(0.2)  # a few pings
        assert [end.links.counters()[peer]["rtt_s"] for end, peer in ((a, "b"), (b, "a"))] != heard
    assert (a.names(), b.names()) == (["LinkUp"], ["LinkUp"])
    await close(a, b)
