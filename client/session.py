"""One life of an MQTT connection. The only file that knows the MQTT library.

What comes in is handed over as it is read, and acknowledged after that: nothing is kept between the socket and whoever
listens, so that what is not dealt with yet stays with the broker, and nothing grows here. TCP_NODELAY is set because
without it a QoS 1 round trip takes 44 ms.

The library leaves a connection open that fails or is given up while it begins, or that ends over what cannot be read:
its socket stays watched, and where the library has stopped in the middle of a packet, the loop spins on it for ever. It
also asks to watch a socket that it closes in the same turn, by a number that may be another's in the next. So whatever
ends a session here closes its socket, after all that was asked for it, and only what is open is watched.

mosquitto acknowledges a message above its ``message_size_limit`` with a reason (packet too large) that MQTT 5 keeps for
another packet, and which the library therefore cannot read. It is the only word on such a message, and nobody would
learn why a work got no answer; so it is read here, and the library is given a reason that it knows.
"""

import asyncio
import contextlib
import logging
import socket
from typing import Any, Awaitable, Callable, Dict, NamedTuple, Optional, Set, TypeVar

import aiomqtt

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.broker_tls import tls_context
from pamdi.client.broker_trouble import CLOSED, TOO_LARGE
from pamdi.client.loops import within

IN_FLIGHT_MAX = 20
CALL_S_MAX = 15.0
PACKET_HEADER_BYTES = 16  # of a publication, at most
PUBACK, QUOTA_EXCEEDED = 0x40, 151  # what the library reads in the place of "packet too large"
UNREADABLE = (129, 130)  # malformed packet, protocol error: as the library calls what it cannot read
OLD_BROKER = 132  # MQTT 5: this version is not spoken here
MQTT5, MQTT311 = aiomqtt.ProtocolVersion.V5, aiomqtt.ProtocolVersion.V311
MqttError = aiomqtt.MqttError
T = TypeVar("T")
# What the library logs at every try, we say once and in words that help (client/broker_trouble.py).
_UNHEARD = logging.getLogger("pamdi.client.mqtt")
_UNHEARD.setLevel(logging.CRITICAL + 1)


class Will(NamedTuple):
    topic: str
    payload: bytes


class Session(aiomqtt.Client):
    """The library's client, which keeps three things to itself that we want: each message when it is read, the
    broker's word on each message of ours, and that a connection ended before it began. To be entered once."""

    def __init__(self, hand_over: Callable[[str, bytes, bool], None], host: str, port: int, **settings: Any) -> None:
        super().__init__(host, port, **settings)
        self._hand_over = hand_over
        self._on_their_way: "Dict[int, asyncio.Future[int]]" = {}  # by the library's numbers
        self.in_flight_max, self.packet_bytes_max = IN_FLIGHT_MAX, 2**28
        self._too_large: Set[int] = set()
        library: Any = self._client
        self._handle_packet, library._packet_handle = library._packet_handle, self._handle_readable
        self.lost = False
        self.unbearable: Optional[Exception] = None  # what whoever listens raised
        self._connecting = self._given_up = False
        self._ends = [self._connected, self._disconnected]  # the library begins with other ones once it is connected

    async def __aenter__(self) -> "Session":
        self._connecting = True
        try:
            await super().__aenter__()
        except BaseException:
            self._give_up()
            raise
        return self

    async def __aexit__(self, *error: Any) -> None:
        try:
            await super().__aexit__(*error)
        finally:
            self._give_up()

    async def _wait_for(self, fut: "Awaitable[T]", timeout: Optional[float]) -> T:
        """The library's own overhears a cancellation that comes together with the broker's word."""
        try:
            return await within(self.timeout if timeout is None else timeout, fut)
        except asyncio.TimeoutError:
            raise aiomqtt.MqttError("Operation timed out") from None

    def _client_connect(self) -> None:
        """In a thread, which goes on when nobody waits for it any longer."""
        try:
            super()._client_connect()
        finally:
            self._connecting = False
            if self._given_up:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self._close)

    def _give_up(self) -> None:
        self._given_up = True
        if not self._connecting:
            self._loop.call_soon(self._close)  # after what was asked of the loop for this socket

    def _close(self) -> None:
        library: Any = self._client
        library._sock_close()
        for end in (*self._ends, self._connected, self._disconnected):
            if end.done() and not end.cancelled():
                end.exception()  # unread, it would be logged as forgotten

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._watch_writing, sock)

    def _watch_writing(self, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), self._write)

    def _write(self) -> None:
        try:
            self._client.loop_write()
        except Exception as error:  # as the library has it: the connection is broken
            if not self._disconnected.done():
                self._disconnected.set_exception(error)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        try:
            self._hand_over(str(message.topic), bytes(message.payload or b""), bool(message.retain))
        except Exception as error:
            self.unbearable, self.lost = error, True
            raise

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        self.in_flight_max = min(IN_FLIGHT_MAX, getattr(properties, "ReceiveMaximum", IN_FLIGHT_MAX))
        self.packet_bytes_max = getattr(properties, "MaximumPacketSize", self.packet_bytes_max)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        self.lost = True
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError(CLOSED))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        landed = self._on_their_way.get(mid)
        if landed is not None and not landed.done():
            landed.set_result(TOO_LARGE if mid in self._too_large else int(getattr(reason_code, "value", 0)))
        self._too_large.discard(mid)

    def _handle_readable(self) -> Any:
        """The library's own, once what it cannot read has been put into its words."""
        packet = self._client._in_packet
        body = packet["packet"]
        if packet["command"] == PUBACK and len(body) > 2 and body[2] == TOO_LARGE:
            self._too_large.add(int.from_bytes(body[:2], "big"))
            packet["packet"] = bytearray(body[:2]) + bytearray([QUOTA_EXCEEDED]) + bytearray(body[3:])
        return self._handle_packet()

    async def send(self, topic: str, payload: bytes, qos: int, retain: bool) -> int:
        """Wait for the broker's word: MQTT 5's reason, 128 and above where the message was not accepted.

        No time limit: the library keeps the message, so a second copy would only add to what a slow link has to carry.
        A broker that is dead is found by the keep-alive. Raises MqttError."""
        if len(topic) + len(payload) + PACKET_HEADER_BYTES > self.packet_bytes_max:
            return TOO_LARGE
        said = self._client.publish(topic, payload, qos, retain)
        if said.rc != 0:
            raise aiomqtt.MqttCodeError(said.rc, "Could not publish message")
        if said.is_published():
            return 0
        landed: "asyncio.Future[int]" = asyncio.get_running_loop().create_future()
        self._on_their_way[said.mid] = landed
        try:
            return await landed
        finally:
            del self._on_their_way[said.mid]


def open_session(
    broker: BrokerConfig,
    client_id: str,
    will: Optional[Will],
    protocol: Any,
    hand_over: Callable[[str, bytes, bool], None],
) -> Session:
    """Not connected yet: to be entered. ``hand_over(topic, payload, retained)`` hears each message. Raises ConfigError
    for settings that cannot work."""
    host, port, tls = broker.address()
    fresh: Dict[str, Any] = {"clean_start": True} if protocol is MQTT5 else {"clean_session": True}
    return Session(
        hand_over,
        host,
        port,
        identifier=client_id,
        username=broker.user,
        password=broker.password(),
        keepalive=broker.keepalive_s,
        will=None if will is None else aiomqtt.Will(will.topic, will.payload, qos=1, retain=True),
        protocol=protocol,
        timeout=CALL_S_MAX,
        max_inflight_messages=IN_FLIGHT_MAX,
        logger=_UNHEARD,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        tls_context=tls_context(broker) if tls else None,
        **fresh,
    )


def code_of(error: Optional[BaseException]) -> Optional[int]:
    """MQTT 5's number of what an error of the library says, where it has one."""
    return getattr(getattr(error, "rc", None), "value", None)
