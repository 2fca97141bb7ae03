"""The async client: keeps a work until its answer, whatever happens on the way.

    async with Client(BrokerConfig("mqtt://broker:1883")) as client:
        answer = await client.submit("gate", {"image": array})

A submission is repeated, with the same id and the same bytes, when the broker connection comes back, when nobody has
said ``admitted`` for a while, and now and then while the answer is due: ids make that harmless, and the head answers
a known id with what it knows. Each id is handed to the application once.
"""

import asyncio
import uuid
from typing import Any, Dict, Mapping, Optional, Set, Tuple

import msgspec
import numpy as np

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.loops import end, run_together, within
from pamdi.client.mqtt import Connection
from pamdi.client.payloads import Arrays, ResultJson, id_of, read_outputs, read_result, write_submission
from pamdi.core.errors import BadInput, Reason, Unreachable
from pamdi.core.topics import Topics
from pamdi.core.work import Visit

ADMIT_S = 2.0  # without a word for so long, the submission is repeated
CHECK_S = 5.0  # likewise for an admitted work without its end
BACK_OFF_MAX = 4  # doublings of either
WORKS_MAX = 10_000
REMEMBERED_MAX = 100_000
RETRIED = frozenset({"overloaded", "head_away", "journal_full", "stopping", "no_route", "unknown_source"})


class Answer(msgspec.Struct, frozen=True):
    """How a work ended: ``status`` is answered, failed or refused; seconds as the head measured them."""

    id: str
    status: str
    reason: str
    detail: str
    outputs: Arrays
    latency_s: Optional[float]
    path: Tuple[Visit, ...]
    replayed: int
    retried: int


class _Pending:
    """A work that this client keeps."""

    __slots__ = ("admitted", "done", "leaving", "patient_until", "payload", "refusals", "repeats", "retry_at", "source")

    def __init__(self, source: str, payload: bytes, done: "asyncio.Future[Answer]", patient_until: float) -> None:
        self.source, self.payload, self.done, self.patient_until = source, payload, done, patient_until
        self.admitted = False
        self.leaving = False  # a copy is on its way to the broker, and will get there
        self.repeats = 0
        self.retry_at = 0.0
        self.refusals = 0

    def left(self) -> None:
        self.leaving = False

    def turned_away(self, line: str) -> None:
        """By the broker: what it does not accept now, it will not accept the next time."""
        self.leaving = False
        if not self.done.done():
            self.done.set_exception(Unreachable(line))


class Client:
    """One MQTT connection; an urgent source deserves a client of its own. ``retry_refused_s``: how long a work that
    is refused for a passing reason is submitted again before the refusal is returned."""

    def __init__(self, broker: BrokerConfig, client_id: Optional[str] = None, retry_refused_s: float = 0.0) -> None:
        self._topics = Topics(broker.prefix)
        self._pending: Dict[Tuple[str, str], _Pending] = {}
        self._ended: Dict[Tuple[str, str], str] = {}
        self._watched: Set[str] = set()
        self._retry_refused_s = retry_refused_s
        name = client_id or f"pamdi-client-{uuid.uuid4().hex[:12]}"
        self._mqtt = Connection(broker, name, self._message, self._connected)
        self._task: Optional["asyncio.Task[None]"] = None
        self._url = broker.url
        self._reached = False  # the broker, at least once
        self.duplicated = 0
        self.redelivered = 0
        self.unreadable = 0

    async def __aenter__(self) -> "Client":
        """Raises ConfigError for settings that cannot work, such as a password file that is not there."""
        self._mqtt.check()
        self._task = asyncio.get_running_loop().create_task(
            run_together({"broker": self._mqtt.run(), "repeat": self._repeat()})
        )
        self._task.add_done_callback(self._stopped)
        await asyncio.sleep(0)  # its loops begin, so that they can be ended properly, however soon
        return self

    async def __aexit__(self, *error: Any) -> None:
        assert self._task is not None
        await end([self._task])
        for pending in self._pending.values():
            pending.done.cancel()

    async def connected(self, within_s: float = 10.0) -> None:
        """Raises Unreachable when the broker does not answer in time, ConfigError for settings that cannot work."""
        await self._mqtt.reached(within_s)

    async def watch(self, source: str) -> None:
        """Subscribe to a source's results: before the first submission, or an answer could be missed."""
        if source not in self._watched:
            self._watched.add(source)
            self._mqtt.subscribe(self._topics.source(source, "result"))

    async def submit(
        self,
        source: str,
        inputs: Mapping[str, "np.ndarray"],
        id: Optional[str] = None,
        gamma: Optional[float] = None,
        deadline_s: Optional[float] = None,
        timeout_s: float = 60.0,
    ) -> Answer:
        """The work's end. Raises Unreachable when none has come within ``timeout_s``, when the broker does not accept
        the work, and at once when it never let us in and no waiting mends that; BadInput for a reused id and for
        inputs that are no arrays."""
        if self._task is None or self._task.done():
            raise Unreachable(f"{source}: this client is not open: submit within `async with Client(...)`")
        id = id or uuid.uuid4().hex
        key = (source, id)
        if key in self._pending or len(self._pending) >= WORKS_MAX:
            raise BadInput(f"{source}/{id} is already submitted here, or {WORKS_MAX} works are")
        payload = write_submission(id, inputs, gamma, deadline_s)
        await self.watch(source)
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + min(timeout_s, self._retry_refused_s)
        pending = _Pending(source, payload, loop.create_future(), patient_until)
        self._pending[key] = pending
        self._publish(pending)
        try:
            return await within(timeout_s, pending.done)
        except asyncio.TimeoutError as error:
            why = self._mqtt.trouble or _silence(pending)
            raise Unreachable(f"{source}/{id}: no answer within {timeout_s:g} s: {why}") from error
        finally:
            self._pending.pop(key, None)

    def _publish(self, pending: _Pending) -> None:
        """Each repeat waits longer than the one before; one copy at a time, so that a slow link is not made slower."""
        wait_s = (CHECK_S if pending.admitted else ADMIT_S) * 2 ** min(pending.repeats, BACK_OFF_MAX)
        pending.retry_at = asyncio.get_running_loop().time() + wait_s
        if not pending.leaving:
            pending.repeats += 1
            topic = self._topics.source(pending.source, "submit")
            pending.leaving = self._mqtt.publish(topic, pending.payload, 1, False, pending.left, pending.turned_away)

    def _connected(self) -> None:
        """A broker that was away may have lost submissions and answers alike: say everything again."""
        self._reached = True
        for pending in self._pending.values():
            if pending.retry_at:
                pending.repeats = 0
                self._publish(pending)

    def _stopped(self, task: "asyncio.Task[None]") -> None:
        """Without its loops a client hears nothing more: no work is left waiting for that."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            for pending in self._pending.values():
                pending.turned_away(str(error))

    async def _repeat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0.1)
            now = loop.time()
            if self._mqtt.connected.is_set():
                for pending in list(self._pending.values()):
                    if now >= pending.retry_at:
                        self._publish(pending)
            elif not self._reached and self._mqtt.trouble is not None and self._mqtt.trouble.lasting:
                for pending in self._pending.values():
                    pending.turned_away(f"broker {self._url}: {self._mqtt.trouble}")

    def _message(self, topic: str, payload: bytes, retained: bool) -> None:
        parsed = self._topics.parse(topic)
        if parsed is None or parsed.leaf != "result":
            return
        try:
            result = read_result(payload)
            self._result(parsed.id, result)
        except BadInput:
            self.unreadable += 1
            id_of(payload)

    def _result(self, source: str, result: ResultJson) -> None:
        key = (source, result.id)
        pending = self._pending.get(key)
        if result.status == "admitted":
            if pending is not None and not pending.admitted:
                pending.admitted = True
                pending.repeats = 0
                pending.retry_at = asyncio.get_running_loop().time() + CHECK_S
            return
        if result.status == "refused":
            self._refused(pending, result)
            return
        # Before anything is remembered: what cannot be read is no answer.
        outputs = read_outputs(result) if pending is not None else {}
        print_of = repr((result.status, result.reason, result.outputs, result.path))
        if key in self._ended:
            self.duplicated += self._ended[key] != print_of
            self.redelivered += self._ended[key] == print_of
            return
        self._ended[key] = print_of
        while len(self._ended) > REMEMBERED_MAX:
            del self._ended[next(iter(self._ended))]
        if pending is not None:
            self._finish(pending, result, outputs)

    def _refused(self, pending: Optional[_Pending], result: ResultJson) -> None:
        if pending is None or pending.admitted or result.reason == Reason.UNKNOWN_WORK.value:
            return  # the last is the answer to a cancellation that came before the work
        now = asyncio.get_running_loop().time()
        pending.refusals += 1
        again_s = result.retry_after_s or min(5.0, 0.2 * 2 ** min(pending.refusals, 5))
        if result.reason in RETRIED and now + again_s < pending.patient_until:
            pending.repeats = 0
            pending.retry_at = now + again_s
        else:
            self._finish(pending, result, {})

    def _finish(self, pending: _Pending, result: ResultJson, outputs: Arrays) -> None:
        if not pending.done.done():
            pending.done.set_result(
                Answer(
                    result.id,
                    result.status,
                    result.reason,
                    result.detail,
                    outputs,
                    result.latency_s,
                    result.path,
                    result.replayed,
                    result.retried,
                )  # fmt: skip
            )


def _silence(pending: _Pending) -> str:
    """What to look at when nobody speaks of a work. A broker that is spoken to in MQTT 3.1.1 drops without a word what
    is too large for it."""
    if pending.admitted:
        return "it was admitted: is its head online still (`pamdi status`)? Submitted again, it is not computed twice"
    return (
        "are its head and the controller online (`pamdi status`), may we read its results, and does the broker let "
        f"{len(pending.payload)} bytes pass (message_size_limit)? Submitted again with the same id, it is not computed "
        "twice"
    )


__all__ = ["Answer", "Client"]
