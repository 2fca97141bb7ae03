"""One MQTT connection that is kept alive for ever; each of its lives is a ``session``.

The library does not reconnect, so this does: with back-off, and with everything that must be true on the broker said
again after every connect (subscriptions, then whatever ``on_connect`` publishes). What is published while the broker is
away waits in a queue that is bounded in messages and bytes; a message of QoS 1 leaves the queue when the broker has
acknowledged it, so a broker that dies in between gets it again.

MQTT 5 where the broker speaks it, because it says why a message was not accepted; else 3.1.1, which says nothing.
"""

import asyncio
import random
from collections import deque
from typing import Callable, Deque, Dict, List, NamedTuple, Optional, Set

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.broker_tls import tls_context
from pamdi.client.broker_trouble import CLOSED, TAKEN_OVER, Trouble, not_accepted, taken_over, understood
from pamdi.client.loops import run_together
from pamdi.client.session import MQTT5, MQTT311, OLD_BROKER, UNREADABLE, MqttError, Session, Will, code_of, open_session
from pamdi.core.errors import Unreachable

RETRY_S_MIN, RETRY_S_MAX = 0.1, 5.0
QUEUE_MESSAGES_MAX = 20_000
QUEUE_BYTES_MAX = 512 * 2**20  # the core bounds works and answers long before
REMIND_S = 30.0
SHORT_LIFE_S = 10.0  # a connection that was let in and ended sooner
SHORT_LIVES = 3  # of them in a row: somebody else uses this name
REFUSALS_SAID_MAX = 64  # topics whose refusal is said, once each
SUBSCRIPTION = -1  # in the place of a QoS: bring the broker's idea of this topic in line with ours


class Outgoing(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    on_acknowledged: Optional[Callable[[], None]]
    sequence: int = 0
    on_refused: Optional[Callable[[str], None]] = None


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
        self._defect: Optional[BaseException] = None  # what whoever heard of an acknowledgement raised
        self._sequence = 0
        self._subscriptions: Dict[str, int] = {}
        self._then: Dict[str, Callable[[], None]] = {}  # what waits for a subscription
        self._wake = asyncio.Event()
        self._client: Optional[Session] = None
        self._protocol = MQTT5
        self._short_lives = 0
        self._hopeless = asyncio.Event()
        self._refusals_said: Set[str] = set()
        self.connected = asyncio.Event()
        self.tried = asyncio.Event()  # once, with whatever outcome
        self.trouble: Optional[Trouble] = None  # why there is no connection
        self.on_contested: Callable[[], None] = lambda: None  # another client seems to use our name
        self.overflows = self.refusals = 0

    def subscribe(self, topic: str, qos: int = 1, then: Optional[Callable[[], None]] = None) -> None:
        """Keep this subscription, now and after every reconnect. ``then`` is called once the broker has it."""
        self._subscriptions[topic] = qos
        if then is not None:
            self._then[topic] = then
        self._tell_broker(topic)

    def unsubscribe(self, topic: str) -> None:
        """Forget this subscription. What is on its way may still come."""
        self._then.pop(topic, None)
        if self._subscriptions.pop(topic, None) is not None:
            self._tell_broker(topic)

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 1,
        retain: bool = False,
        on_acknowledged: Optional[Callable[[], None]] = None,
        on_refused: Optional[Callable[[str], None]] = None,
    ) -> bool:
        """Queue a message; never blocks. QoS 0 is dropped while the broker is away. False: dropped, and counted.

        ``on_refused`` hears, in a line, that the broker has not accepted it; then it is not sent again."""
        full = len(self._queue) >= QUEUE_MESSAGES_MAX or self._queued_bytes + len(payload) > QUEUE_BYTES_MAX
        if full or (qos == 0 and not self.connected.is_set()):
            self.overflows += 1
            return False
        self._sequence += 1
        self._queued_bytes += len(payload)
        self._queue.append(Outgoing(topic, payload, qos, retain, on_acknowledged, self._sequence, on_refused))
        self._wake.set()
        return True

    def check(self) -> None:
        """Raises ConfigError for settings that no waiting mends."""
        self._broker.password()
        if self._broker.address()[2]:
            tls_context(self._broker)

    async def reached(self, within_s: float) -> None:
        """Wait for the broker while ``run`` runs. Raises Unreachable with what was in the way (at once where waiting
        does not mend it), ConfigError for settings that cannot work."""
        self.check()
        waits = [asyncio.ensure_future(event.wait()) for event in (self.connected, self._hopeless)]
        try:
            await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if not self.connected.is_set():
            why = self.trouble or Trouble(f"no answer within {within_s:g} s", "check --broker and the network")
            raise Unreachable(f"broker {self._broker.url}: {why}")

    async def run(self) -> None:
        """Keep the connection until cancelled. Raises ConfigError for settings that cannot work."""
        host, port, _ = self._broker.address()
        retry_s, loop = RETRY_S_MIN, asyncio.get_running_loop()
        said: Dict[Optional[Trouble], float] = {}  # when
        while True:
            since: Optional[float] = None
            try:
                async with self._open() as client:
                    since = loop.time()
                    if self._short_lives < SHORT_LIVES:
                        self._log(f"broker {host}:{port} is connected")
                    await self._serve(client)
            except (MqttError, OSError, asyncio.TimeoutError) as error:
                if self._client is not None and self._client.unbearable is not None:
                    raise self._client.unbearable from None
                lasted_s = loop.time() - since if since is not None else None
                if self._another_version(error):
                    continue
                self._judge(error, lasted_s)
                if lasted_s is not None:  # at once, but not in a fight over a name
                    retry_s = min(RETRY_S_MAX, RETRY_S_MIN * 2 ** min(self._short_lives, 10))
                    said = said if self._short_lives else {}
                if loop.time() - said.get(self.trouble, float("-inf")) > REMIND_S:
                    said[self.trouble] = loop.time()
                    self._log(f"broker {host}:{port} is out of reach: {self.trouble}; trying again until it answers")
            finally:
                self.connected.clear()
                self._client = None
            if _cancelled():  # an error while the connection was closed took the cancellation's place
                raise asyncio.CancelledError
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))
            retry_s = min(RETRY_S_MAX, 2 * retry_s)

    def _another_version(self, error: BaseException) -> bool:
        """Whether the next try is with 3.1.1 at once. A broker that hangs up, or whose word cannot be read, may want
        the other version, too.

        A broker may also say in MQTT 5 what the library cannot read (mosquitto 2.0, of a message that is too large):
        the message would come again at every connection and end it."""
        spoke = self._protocol
        code, cause = code_of(error), error.__cause__
        unreadable = isinstance(cause, (ValueError, LookupError)) or code_of(cause) in UNREADABLE
        if unreadable and spoke is MQTT5:
            self._log(f"broker {self._broker.url} says what MQTT 5 does not know ({cause}): going on with 3.1.1")
            self._protocol = MQTT311
            return True
        if code == OLD_BROKER or str(error) == CLOSED or "timed out" in str(error):
            self._protocol = MQTT311 if spoke is MQTT5 else MQTT5
        return code == OLD_BROKER and spoke is MQTT5

    def _judge(self, error: BaseException, lasted_s: Optional[float]) -> None:
        """What ended the connection after ``lasted_s``, or (None) kept it from beginning."""
        cause = error.__cause__ or error
        said = code_of(cause)
        if lasted_s is None or lasted_s >= SHORT_LIFE_S:
            self._short_lives = 0
        else:
            self._short_lives += 1
        if said == TAKEN_OVER or self._short_lives >= SHORT_LIVES:
            self.trouble = taken_over(self._client_id)
            self.on_contested()
        elif lasted_s is not None:
            self.trouble = Trouble("the connection was lost", "look at the network and the broker's log")
        else:
            self.trouble = understood(str(cause), self._broker)
        if self.trouble.lasting:
            self._hopeless.set()
        self.tried.set()

    def _subscribed(self, topic: str) -> None:
        then = self._then.pop(topic, None)
        if then is not None:
            then()

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

    def _open(self) -> Session:
        return open_session(self._broker, self._client_id, self._will, self._protocol, self._on_message)

    async def _serve(self, client: Session) -> None:
        self._client = client
        if client.lost:  # between the broker's first word and here, which the library forgets
            raise MqttError(CLOSED)
        await self._say_subscriptions(client)
        self.trouble = None
        self.connected.set()
        self.tried.set()
        self._say_first()
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

    def _say_first(self) -> None:
        """What must be true on the broker goes before what has waited for it, which may be megabytes, and in the place
        of what it replaces: an older state must not come after a newer one."""
        waiting, self._queue = self._queue, deque()
        self._on_connect()
        said = {message.topic for message in self._queue if message.retain}
        for message in waiting:
            if message.retain and message.topic in said:
                self._queued_bytes -= len(message.payload)
            else:
                self._queue.append(message)

    async def _say_subscriptions(self, client: Session) -> None:
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
                    self._subscribed(topic)

    async def _receive(self, client: Session) -> None:
        """Until the connection ends; messages do not come this way."""
        async for _ in client.messages:
            pass

    async def _send(self, client: Session) -> None:
        while True:
            while self._queue and len(self._in_flight) < client.in_flight_max:
                message = self._queue.popleft()
                task = asyncio.get_running_loop().create_task(self._publish(client, message))
                self._in_flight[task] = message
                task.add_done_callback(self._landed)
            if self._defect is not None:
                raise self._defect
            self._wake.clear()
            await self._wake.wait()

    def _landed(self, task: "asyncio.Task[None]") -> None:
        """Sent and acknowledged, or not: then it is kept, also when it was cancelled before it had begun."""
        message = self._in_flight.pop(task)
        self._wake.set()
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            return
        if error is not None and not isinstance(error, MqttError):
            self._defect = error
        if message.qos == SUBSCRIPTION:
            self._queue.appendleft(message)
        elif message.qos > 0:
            self._unsent.append(message)
        else:
            self._queued_bytes -= len(message.payload)

    async def _publish(self, client: Session, message: Outgoing) -> None:
        if message.qos == SUBSCRIPTION and message.topic in self._subscriptions:
            await client.subscribe(message.topic, self._subscriptions[message.topic])
            self._subscribed(message.topic)
        elif message.qos == SUBSCRIPTION:
            await client.unsubscribe(message.topic)
        else:
            reason = await client.send(message.topic, message.payload, message.qos, message.retain)
            self._queued_bytes -= len(message.payload)
            if reason >= 128:
                self._not_accepted(message, reason)
            elif message.on_acknowledged is not None:
                message.on_acknowledged()

    def _not_accepted(self, message: Outgoing, reason: int) -> None:
        self.refusals += 1
        line = not_accepted(reason, message.topic, self._broker)
        if message.topic not in self._refusals_said and len(self._refusals_said) < REFUSALS_SAID_MAX:
            self._refusals_said.add(message.topic)
            self._log(line)
        if message.on_refused is not None:
            message.on_refused(line)


def _cancelled() -> bool:
    """Whether this task has been told to end. Before Python 3.11 it cannot know; client/loops.py tells it again."""
    cancelling: Callable[[], int] = getattr(asyncio.current_task(), "cancelling", lambda: 0)
    return cancelling() > 0


__all__ = ["Connection", "Will"]
