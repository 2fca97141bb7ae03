"""One connection that outlives its broker: what was said is said again, and nothing acknowledged is forgotten."""

import asyncio
import contextlib
import functools
import socket
import struct
import sys
import time
import types
from pathlib import Path
from typing import Any, AsyncIterator, Callable, List, Tuple

import aiomqtt
import pytest

from pamdi.client import mqtt, session
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.loops import end
from pamdi.client.mqtt import Connection, Will
from tests.brokers import RunningBroker, free_port, have_mosquitto, running, start_mosquitto

WAIT_S = 60.0
needs_mosquitto = pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed here")


class Ear:
    """Keeps what a connection hears."""

    def __init__(self) -> None:
        self.heard: List[Tuple[str, bytes, bool]] = []

    def __call__(self, topic: str, payload: bytes, retained: bool) -> None:
        self.heard.append((topic, payload, retained))

    @property
    def payloads(self) -> List[bytes]:
        return [payload for _, payload, _ in self.heard]


async def until(true: Callable[[], Any], within_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def kept(connection: Connection) -> AsyncIterator[Connection]:
    task = asyncio.ensure_future(connection.run())
    try:
        yield connection
    finally:
        await end([task])


async def test_what_is_published_is_heard_and_acknowledged_in_order(broker: RunningBroker) -> None:
    ear = Ear()
    acknowledged: List[int] = []
    config = BrokerConfig(broker.url)
    async with kept(Connection(config, "listener", ear)) as listener, kept(Connection(config, "speaker", Ear())) as two:
        listener.subscribe("a/b")
        await until(listener.connected.is_set)
        await until(two.connected.is_set)
        for number in range(100):
            two.publish("a/b", b"%d" % number, 1, False, functools.partial(acknowledged.append, number))
        await until(lambda: len(ear.heard) >= 100 and len(acknowledged) == 100)
    assert ear.payloads == [b"%d" % number for number in range(100)]
    assert acknowledged == list(range(100))


async def test_a_topic_that_is_unsubscribed_is_heard_no_more_and_others_are(broker: RunningBroker) -> None:
    ear, config = Ear(), BrokerConfig(broker.url)
    async with kept(Connection(config, "listener", ear)) as listener, kept(Connection(config, "speaker", Ear())) as two:
        await until(lambda: listener.connected.is_set() and two.connected.is_set())
        for topic in ("a", "b"):
            listener.subscribe(topic)
        while len(set(ear.payloads)) < 2:  # a subscription takes its time
            for topic in ("a", "b"):
                two.publish(topic, topic.encode())
            await asyncio.sleep(0.02)
        assert await two.drain(WAIT_S)
        listener.unsubscribe("a")
        assert await listener.drain(WAIT_S)
        two.publish("b", b"marker")  # whatever was on its way is heard before it
        await until(lambda: b"marker" in ear.payloads)
        count = ear.payloads.count(b"a")
        two.publish("a", b"a")
        two.publish("b", b"last")
        await until(lambda: b"last" in ear.payloads)
        assert ear.payloads.count(b"a") == count


async def test_messages_and_subscriptions_survive_the_brokers_death(broker: RunningBroker) -> None:
    ear = Ear()
    connects: List[int] = []
    config = BrokerConfig(broker.url)
    listener = Connection(config, "listener", ear, lambda: connects.append(1))
    listener.subscribe("a")
    async with kept(listener), kept(Connection(config, "speaker", Ear())) as speaker:
        await until(lambda: listener.connected.is_set() and speaker.connected.is_set())
        broker.kill()
        await until(lambda: not listener.connected.is_set() and not speaker.connected.is_set())
        for number in range(50):
            assert speaker.publish("a", b"%d" % number)
        assert not speaker.publish("a", b"of the moment", 0)
        # The listener must be there first: a clean session hears nothing of the time before.
        broker.start()
        await until(lambda: listener.connected.is_set() and speaker.connected.is_set())
        speaker.publish("a", b"last")
        await until(lambda: b"last" in ear.payloads)
    assert len(connects) == 2
    assert b"of the moment" not in ear.payloads


@needs_mosquitto
async def test_every_acknowledgement_is_true_whenever_the_broker_dies(tmp_path: Path) -> None:
    """Killed in the middle of a stream, with persistence off: each message is acknowledged once, none is forgotten."""
    with running(start_mosquitto(tmp_path)) as broker:
        acknowledged: List[int] = []
        async with kept(Connection(BrokerConfig(broker.url), "speaker", Ear())) as speaker:
            await until(speaker.connected.is_set)
            for number in range(3000):
                speaker.publish("a", bytes(2000), 1, False, functools.partial(acknowledged.append, number))
            await until(lambda: len(acknowledged) > 100)
            broker.restart()
            await until(lambda: len(acknowledged) >= 3000)
            assert await speaker.drain(WAIT_S)
    assert sorted(acknowledged) == list(range(3000))


@needs_mosquitto
async def test_the_will_speaks_for_a_connection_that_dies_and_not_for_one_that_says_goodbye(tmp_path: Path) -> None:
    with running(start_mosquitto(tmp_path)) as broker:
        ear, config = Ear(), BrokerConfig(broker.url)
        async with kept(Connection(config, "listener", ear)) as listener:
            listener.subscribe("state")
            await until(listener.connected.is_set)
            async with kept(Connection(config, "device", Ear(), will=Will("state", b"offline"))) as device:
                await until(device.connected.is_set)
                device.publish("state", b"stopped", 1, True)
                assert await device.drain(WAIT_S)
            await until(lambda: b"stopped" in ear.payloads)
            async with kept(Connection(config, "device", Ear(), will=Will("state", b"offline"))) as first:
                await until(first.connected.is_set)
                async with kept(Connection(config, "device", Ear())):  # takes the id over: the first is cut off
                    await until(lambda: ear.payloads[-1:] == [b"offline"])
    assert ear.payloads[:2] == [b"stopped", b"offline"]


async def test_a_broker_that_is_not_there_is_waited_for_and_said_once(tmp_path: Path) -> None:
    lines: List[str] = []
    connection = Connection(BrokerConfig(f"mqtt://127.0.0.1:{free_port()}"), "early", Ear(), log=lines.append)
    async with kept(connection):
        await until(lambda: lines)
        await asyncio.sleep(0.6)  # some attempts later
    assert len(lines) == 1
    assert "trying again" in lines[0]


@needs_mosquitto
async def test_a_wrong_password_is_told(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wrong\n")
    lines: List[str] = []
    with running(start_mosquitto(tmp_path, users={"gate": "right"})) as broker:
        config = BrokerConfig(broker.url, user="gate", password_file=str(password))
        async with kept(Connection(config, "c", Ear(), log=lines.append)):
            await until(lambda: lines)
        password.write_text("right\n")
        async with kept(Connection(config, "c", Ear())) as connection:
            await until(connection.connected.is_set)
    assert "does not accept user gate" in lines[0]


class HalfDeadBroker:
    """Accepts connections and subscriptions, and never acknowledges a message: it only counts them."""

    def __init__(self) -> None:
        self.published = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind = (await reader.readexactly(1))[0] >> 4
                length, shift = 0, 0
                while True:
                    byte = (await reader.readexactly(1))[0]
                    length |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                await reader.readexactly(length)
                self.published += kind == 3
                if kind == 1:
                    writer.write(struct.pack("BBBB", 0x20, 2, 0, 0))
        writer.close()


async def test_a_slow_acknowledgement_does_not_send_the_message_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow uplink an acknowledgement takes long; each repeat would make it longer."""
    monkeypatch.setattr(session, "CALL_S_MAX", 0.2)
    broker = HalfDeadBroker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with kept(Connection(BrokerConfig(f"mqtt://127.0.0.1:{port}"), "c", Ear())) as connection:
        await until(connection.connected.is_set)
        connection.publish("a", b"once")
        await until(lambda: broker.published)
        await asyncio.sleep(1.0)  # five time limits
        assert broker.published == 1
    server.close()
    await server.wait_closed()


async def test_what_was_in_flight_goes_again_in_its_order() -> None:
    broker = HalfDeadBroker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with kept(Connection(BrokerConfig(f"mqtt://127.0.0.1:{port}"), "c", Ear())) as connection:
        await until(connection.connected.is_set)
        for number in range(12):
            connection.publish("a", b"%d" % number)
        await until(lambda: broker.published == 12)
    server.close()
    await server.wait_closed()
    assert [message.payload for message in connection._queue] == [b"%d" % number for number in range(12)]


class SlowToSubscribe:
    """Takes subscriptions; while the first one is on its way, somebody changes what is wanted."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.known: List[str] = []
        self._meanwhile = [meanwhile]

    async def subscribe(self, topic: str, qos: int) -> None:
        if self._meanwhile:
            self._meanwhile.pop()()
        self.known.append(topic)

    async def unsubscribe(self, topic: str) -> None:
        self.known.remove(topic)


async def test_subscriptions_that_change_while_they_are_said_are_kept() -> None:
    """An allocation that comes on one connection changes what the other, which is just connecting, must hear."""
    connection = Connection(BrokerConfig(), "c", Ear())
    for topic in ("a", "b"):
        connection.subscribe(topic)

    def change() -> None:
        connection.unsubscribe("a")
        connection.subscribe("c")

    client: Any = SlowToSubscribe(change)
    await connection._say_subscriptions(client)
    assert sorted(client.known) == ["b", "c"]


async def test_it_is_told_when_the_broker_has_a_subscription_whether_it_was_there_or_not(broker: RunningBroker) -> None:
    ear, told = Ear(), []  # type: Ear, List[str]
    connection = Connection(BrokerConfig(broker.url), "c", ear)
    connection.subscribe("early", then=lambda: told.append("early"))
    assert told == []
    async with kept(connection):
        await until(lambda: told == ["early"])
        await until(connection.connected.is_set)
        connection.subscribe("late", then=lambda: told.append("late"))
        await until(lambda: told == ["early", "late"])
        connection.publish("late", b"heard")
        await until(lambda: ear.payloads == [b"heard"])
    assert told == ["early", "late"]


async def test_what_waits_for_a_broker_is_bounded_in_bytes(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "QUEUE_BYTES_MAX", 1000)
    connection = Connection(BrokerConfig(broker.url), "c", Ear())
    assert [connection.publish("a", bytes(400)) for _ in range(3)] == [True, True, False]
    async with kept(connection):
        assert await connection.drain(WAIT_S)  # and what has left makes room again
        assert connection.publish("a", bytes(1000)) and await connection.drain(WAIT_S)
        await until(lambda: connection._queued_bytes == 0)
    assert connection.overflows == 1


async def test_small_packets_leave_at_once(broker: RunningBroker) -> None:
    async with kept(Connection(BrokerConfig(broker.url), "c", Ear())) as connection:
        await until(connection.connected.is_set)
        client: Any = connection._client
        assert client._client.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_two_fleets_with_their_own_prefixes_share_a_broker(broker: RunningBroker) -> None:
    """One id at the broker would mean that each cuts the other off, for ever."""
    connects: List[int] = []
    async with contextlib.AsyncExitStack() as stack:
        for prefix in ("one/v1", "two/v1"):
            config = BrokerConfig(broker.url, prefix=prefix)
            connection = Connection(config, "pamdi-d0", Ear(), lambda: connects.append(1))
            await stack.enter_async_context(kept(connection))
            await until(connection.connected.is_set)
            assert connection.publish("a", b"x") and await connection.drain(WAIT_S)
    assert len(connects) == 2


async def test_a_message_whose_sending_was_cancelled_before_it_began_is_kept() -> None:
    connection = Connection(BrokerConfig(), "speaker", Ear())
    connection.publish("a", b"kept")
    session: Any = types.SimpleNamespace(in_flight_max=1)
    sending = asyncio.ensure_future(connection._send(session))
    await asyncio.sleep(0)  # it has made the task, which has not had its turn
    (task,) = connection._in_flight
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [message.payload for message in connection._unsent] == [b"kept"]
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def test_a_connection_that_ends_with_the_brokers_first_word_is_not_taken_for_alive() -> None:
    """The library forgets an end that comes so soon: nobody would ever connect again."""
    came: List[int] = []

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        came.append(1)
        writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK: success
        writer.close()

    server = await asyncio.start_server(broker, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with kept(Connection(BrokerConfig(f"mqtt://127.0.0.1:{port}"), "c", Ear())):
        await until(lambda: len(came) >= 5)
    server.close()


async def test_what_must_be_true_on_the_broker_is_said_before_what_waited_for_it(broker: RunningBroker) -> None:
    """Else a device with many results to tell would long be taken for gone. The state that waited is of yesterday."""
    ear = Ear()
    listener = Connection(BrokerConfig(broker.url), "listener", ear)
    listener.subscribe("#")

    def say_state() -> None:
        speaker.publish("state", b"new", 1, True)

    speaker = Connection(BrokerConfig(broker.url), "speaker", Ear(), say_state)
    for topic, payload, retain in (("result", b"1", False), ("state", b"old", True), ("result", b"2", False)):
        speaker.publish(topic, payload, 1, retain)
    async with kept(listener):
        await until(listener.connected.is_set)
        async with kept(speaker):
            await until(lambda: len(ear.heard) == 3)
            assert await speaker.drain(WAIT_S) and speaker._queued_bytes == 0
    assert ear.payloads == [b"new", b"1", b"2"]


class _Overhears:
    """A session that answers a cancellation with an error of its own, as the library may while it closes."""

    unbearable = None

    async def __aenter__(self) -> "_Overhears":
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise aiomqtt.MqttError("the connection was lost") from None
        return self

    async def __aexit__(self, *error: object) -> None:
        pass


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before, a task cannot know that it was told to end")
async def test_a_connection_told_once_to_end_does_so_whatever_comes_of_closing_it(monkeypatch: Any) -> None:
    connection = Connection(BrokerConfig(), "c", lambda *message: None)
    monkeypatch.setattr(connection, "_open", _Overhears)
    task = asyncio.ensure_future(connection.run())
    await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=60.0)
    if not done:
        await end([task])
    assert done == {task} and task.cancelled()
