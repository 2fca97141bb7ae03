"""A session that is given up, at whatever moment and for whatever reason, leaves nothing open and nothing watched."""

import asyncio
import contextlib
import socket
import threading
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, List

import pytest
import uvloop

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.mqtt import Connection
from pamdi.client.session import MQTT5, open_session

WAIT_S = 60.0
MOMENTS = 12  # turns of the loop in which a connection is let in
CONNACK = b"\x20\x03\x00\x00\x00"  # MQTT 5: welcome
MESSAGE = b"\x30\x05\x00\x01a\x00x"  # QoS 0, on the topic a

new_loops = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


class Broker:
    """Says ``says`` to everybody who asks to be let in, and listens until they have gone."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self._visits: "List[asyncio.Task[None]]" = []
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Broker"]:
        server = await asyncio.start_server(self._visit, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        yield self
        server.close()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: Any = asyncio.current_task()
        self._visits.append(task)
        with contextlib.suppress(ConnectionError):
            if await reader.read(1000):
                writer.write(self._says)
            while await reader.read(1000):
                pass
        writer.close()

    async def all_gone(self) -> None:
        await asyncio.sleep(0.05)  # whoever is still in the kernel's queue comes in
        if self._visits:
            _, left = await asyncio.wait(self._visits, timeout=WAIT_S)
            assert not left


def run(new_loop: NewLoop, play: Awaitable[None]) -> List[Dict[str, Any]]:
    """What the loop had to complain of."""
    complaints: List[Dict[str, Any]] = []
    loop = new_loop()
    try:
        loop.set_exception_handler(lambda _, said: complaints.append(said))
        loop.run_until_complete(play)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    return complaints


async def given_up_after(turns: int, url: str) -> None:
    task = asyncio.ensure_future(Connection(BrokerConfig(url), "c", lambda *message: None).run())
    for _ in range(turns):
        await asyncio.sleep(0.0005)
    task.cancel()
    await asyncio.wait([task])


@new_loops
@pytest.mark.parametrize("says", [b"", CONNACK])
def test_a_connection_that_is_given_up_while_it_begins_is_closed(new_loop: NewLoop, says: bytes) -> None:
    async def play() -> None:
        async with Broker(says).serving() as broker:
            for turns in range(MOMENTS):
                await given_up_after(turns, f"mqtt://127.0.0.1:{broker.port}")
            await broker.all_gone()

    assert run(new_loop, play()) == []


@new_loops
def test_so_is_one_that_a_thread_only_makes_after_that(new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, connect = threading.Event(), socket.create_connection

    def late(*arguments: Any, **named: Any) -> socket.socket:
        assert go_on.wait(WAIT_S)
        return connect(*arguments, **named)

    async def play() -> None:
        monkeypatch.setattr(socket, "create_connection", late)
        async with Broker(CONNACK).serving() as broker:
            await given_up_after(3, f"mqtt://127.0.0.1:{broker.port}")
            go_on.set()
            while not broker._visits:
                await asyncio.sleep(0.005)
            await broker.all_gone()

    assert run(new_loop, play()) == []


@new_loops
def test_one_that_ends_in_the_middle_of_a_packet_is_not_read_for_ever(new_loop: NewLoop) -> None:
    """What whoever listens cannot bear stops the library before it has dealt with the packet."""

    def listen(topic: str, payload: bytes, retained: bool) -> None:
        raise OSError("a defect of ours")

    async def play() -> None:
        async with Broker(CONNACK + 2 * MESSAGE).serving() as broker:
            connection = Connection(BrokerConfig(f"mqtt://127.0.0.1:{broker.port}"), "c", listen)
            with pytest.raises(OSError, match="a defect of ours"):
                await asyncio.wait_for(connection.run(), WAIT_S)
            await broker.all_gone()

    assert run(new_loop, play()) == []


@new_loops
def test_a_socket_that_is_closed_in_the_turn_in_which_it_has_something_to_say_is_not_watched(new_loop: NewLoop) -> None:
    """Its number may be somebody else's by then."""

    async def play() -> None:
        loop = asyncio.get_running_loop()
        async with Broker(CONNACK).serving() as broker:
            config = BrokerConfig(f"mqtt://127.0.0.1:{broker.port}")
            async with open_session(config, "c", None, MQTT5, lambda *message: None) as session:
                library: Any = session._client
                sock = library.socket()
                number = sock.fileno()
                library.publish("a", b"x", 0)
                sock.shutdown(socket.SHUT_RD)  # as if the broker had hung up: its end is there to be read
                library.loop_read()
                assert sock.fileno() < 0
                others = socket.socketpair()
                assert number in [other.fileno() for other in others]
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert not loop.remove_writer(number)
                for other in others:
                    other.close()
            await broker.all_gone()

    assert run(new_loop, play()) == []
