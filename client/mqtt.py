"""One MQTT connection that is kept alive for ever. The only file that knows the MQTT library.

aiomqtt does not reconnect, so this does: with back-off, and with everything that must be true on the broker said again
after every connect (subscriptions, then whatever ``on_connect`` publishes). What is published while the broker is
away waits in a queue that is bounded in messages and bytes; a message of QoS 1 leaves the queue when the broker has
acknowledged it, so a broker that dies in between gets it again. TCP_NODELAY is set because without it a QoS 1 round
trip takes 44 ms.
"""

import asyncio
import math
import random
import socket
import ssl
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional

import aiomqtt

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.loops import run_together
from pamdi.core.errors import ConfigError, Unreachable

RETRY_S_MIN, RETRY_S_MAX = 0.1, 5.0
QUEUE_MESSAGES_MAX = 20_000
QUEUE_BYTES_MAX = 512 * 2**20  # the core bounds works and answers long before
IN_FLIGHT_MAX = 20
CALL_S_MAX = 15.0
REMIND_S = 30.0
SUBSCRIPTION = -1  # in the place of a QoS: bring the broker's idea of this topic in line with ours


class Outgoing(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    on_acknowledged: Optional[Callable[[], None]]
    sequence: int = 0


class Will(NamedTuple):
    topic: str
    payload: bytes


class Connection:
    """``on_message(topic, payload, retained)`` and ``on_connect()`` are called in the event loop."""

    def __init__(
        self,
        broker: BrokerConfig,
        client_id: str,
        on_message: Callable[[str, bytes, bool], None],
        on_connect: Callable[[], None] = lambda: None,
        will: Optional[Will] = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._broker, self._will, self._log = broker, will, log
        self._client_id = broker.client_id(client_id)
        self._on_message, self._on_connect = on_message, on_connect
        self._queue: Deque[Outgoing] = deque()
        self._queued_bytes = 0  # what is in flight included
        self._in_flight: Dict["asyncio.Task[None]", Outgoing] = {}
        self._unsent: List[Outgoing] = []  # was in flight when the connection was lost
        self._sequence = 0
        self._subscriptions: Dict[str, int] = {}
        self._wake = asyncio.Event()
        self._client: Optional[aiomqtt.Client] = None
        self.connected = asyncio.Event()
        self.problem = ""  # why the last try to connect failed
        self.overflows = 0

    def subscribe(self, topic: str, qos: int = 1) -> None:
        """Keep this subscription, now and after every reconnect."""
        self._subscriptions[topic] = qos
        self._tell_broker(topic)

    def unsubscribe(self, topic: str) -> None:
        """Forget this subscription. What is on its way may still come."""
        if self._subscriptions.pop(topic, None) is not None:
            self._tell_broker(topic)

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 1,
        retain: bool = False,
        on_acknowledged: Optional[Callable[[], None]] = None,
    ) -> bool:
        """Queue a message; never blocks. QoS 0 is dropped while the broker is away. False: dropped, and counted."""
        full = len(self._queue) >= QUEUE_MESSAGES_MAX or self._queued_bytes + len(payload) > QUEUE_BYTES_MAX
        if full or (qos == 0 and not self.connected.is_set()):
            self.overflows += 1
            return False
        self._sequence += 1
        self._queued_bytes += len(payload)
        self._queue.append(Outgoing(topic, payload, qos, retain, on_acknowledged, self._sequence))
        self._wake.set()
        return True

    def check(self) -> None:
        """Raises ConfigError for settings that no waiting mends."""
        self._broker.password()
        if self._broker.address()[2]:
            _tls_context(self._broker)

    async def reached(self, within_s: float) -> None:
        """Wait for the broker while ``run`` runs. Raises Unreachable with what was in the way, ConfigError for settings
        that cannot work."""
        self.check()
        try:
            await asyncio.wait_for(self.connected.wait(), within_s)
        except asyncio.TimeoutError as error:
            why = f" ({self.problem})" if self.problem else ""
            raise Unreachable(
                f"broker {self._broker.url} did not let us in within {within_s:g} s{why}: check --broker, --user and "
                "--password-file"
            ) from error

    async def run(self) -> None:
        """Keep the connection until cancelled. Raises ConfigError for settings that cannot work."""
        host, port, _ = self._broker.address()
        retry_s, said_at, loop = RETRY_S_MIN, float("-inf"), asyncio.get_running_loop()
        while True:
            try:
                async with self._open() as client:
                    self._log(f"broker {host}:{port} is connected")
                    retry_s, said_at = RETRY_S_MIN, float("-inf")
                    await self._serve(client)
            except (aiomqtt.MqttError, OSError, asyncio.TimeoutError) as error:
                self.problem = str(error)
                if loop.time() - said_at > REMIND_S:
                    said_at = loop.time()
                    self._log(f"broker {host}:{port} is out of reach ({error}): trying again until it answers")
            finally:
                self.connected.clear()
                self._client = None
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))
            retry_s = min(RETRY_S_MAX, 2 * retry_s)

    def _tell_broker(self, topic: str) -> None:
        if self.connected.is_set():
            self._queue.appendleft(Outgoing(topic, b"", SUBSCRIPTION, False, None))
            self._wake.set()

    async def drain(self, within_s: float) -> bool:
        """Wait until everything queued is acknowledged, at most ``within_s``. Returns whether it is."""
        until = asyncio.get_running_loop().time() + within_s
        while (self._queue or self._in_flight) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.01)
        return not self._queue and not self._in_flight

    def _open(self) -> aiomqtt.Client:
        host, port, tls = self._broker.address()
        will = self._will
        return aiomqtt.Client(
            host,
            port,
            identifier=self._client_id,
            username=self._broker.user,
            password=self._broker.password(),
            keepalive=self._broker.keepalive_s,
            will=None if will is None else aiomqtt.Will(will.topic, will.payload, qos=1, retain=True),
            clean_session=True,
            timeout=CALL_S_MAX,
            max_inflight_messages=IN_FLIGHT_MAX,
            max_queued_incoming_messages=0,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            tls_context=_tls_context(self._broker) if tls else None,
        )

    async def _serve(self, client: aiomqtt.Client) -> None:
        self._client = client
        await self._say_subscriptions(client)
        self.connected.set()
        self._on_connect()
        try:
            await run_together({"receive": self._receive(client), "send": self._send(client)})
        finally:
            unfinished = list(self._in_flight)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            # In the order of publishing: an older state must not come after a newer one.
            self._queue.extendleft(sorted(self._unsent, key=lambda message: message.sequence, reverse=True))
            self._unsent.clear()

    async def _say_subscriptions(self, client: aiomqtt.Client) -> None:
        """Others subscribe and unsubscribe while we speak: until the broker knows what we know now."""
        told: Dict[str, int] = {}
        while told != self._subscriptions:
            for topic in [topic for topic in told if topic not in self._subscriptions]:
                await client.unsubscribe(topic)
                del told[topic]
            for topic, qos in list(self._subscriptions.items()):
                if told.get(topic) != qos:
                    await client.subscribe(topic, qos)
                    told[topic] = qos

    async def _receive(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload: Any = message.payload
            self._on_message(str(message.topic), bytes(payload or b""), bool(message.retain))

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            while self._queue and len(self._in_flight) < IN_FLIGHT_MAX:
                message = self._queue.popleft()
                task = asyncio.get_running_loop().create_task(self._publish(client, message))
                self._in_flight[task] = message
                task.add_done_callback(self._landed)
            self._wake.clear()
            await self._wake.wait()

    def _landed(self, task: "asyncio.Task[None]") -> None:
        """Sent and acknowledged, or not: then it is kept, also when it was cancelled before it had begun."""
        message = self._in_flight.pop(task)
        self._wake.set()
        if not task.cancelled() and task.exception() is None:
            return
        if message.qos == SUBSCRIPTION:
            self._queue.appendleft(message)
        elif message.qos > 0:
            self._unsent.append(message)
        else:
            self._queued_bytes -= len(message.payload)

    async def _publish(self, client: aiomqtt.Client, message: Outgoing) -> None:
        """No time limit for the acknowledgement: the library keeps the message, so a second copy would only add to
        what a slow link has to carry. A broker that is dead is found by the keep-alive."""
        if message.qos == SUBSCRIPTION and message.topic in self._subscriptions:
            await client.subscribe(message.topic, self._subscriptions[message.topic])
        elif message.qos == SUBSCRIPTION:
            await client.unsubscribe(message.topic)
        else:
            await client.publish(message.topic, message.payload, message.qos, message.retain, timeout=math.inf)
        self._queued_bytes -= len(message.payload)
        if message.on_acknowledged is not None:
            message.on_acknowledged()


def _tls_context(broker: BrokerConfig) -> ssl.SSLContext:
    """Raises ConfigError for a file that is absent, unreadable or no certificate: waiting does not mend those."""
    try:
        context = ssl.create_default_context(cafile=broker.ca_file)
    except OSError as error:
        raise ConfigError(f"ca_file {broker.ca_file}: {_why(error)}: give the PEM file of the authority") from error
    if broker.cert_file is not None:
        try:
            context.load_cert_chain(broker.cert_file, broker.key_file)
        except OSError as error:
            files = f"cert_file {broker.cert_file}, key_file {broker.key_file}"
            raise ConfigError(f"{files}: {_why(error)}: give a PEM certificate and its key") from error
    return context


def _why(error: OSError) -> str:
    return (error.strerror or str(error)) if not isinstance(error, ssl.SSLError) else "not what it should hold"
