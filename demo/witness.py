"""Somebody who only listens: every end that is published for every work, counted apart from those who asked for it.

A client knows what *it* heard while it waited. A head that restarts may say an end again long after that; saying the
same once more is the delivery's right (at least once), saying another is a second answer.
"""

import asyncio
import uuid
from typing import Any, Dict, Optional, Tuple

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.loops import end, within
from pamdi.client.mqtt import Connection
from pamdi.client.payloads import read_result
from pamdi.core.errors import BadInput, Unreachable
from pamdi.core.topics import Topics

LISTEN_S_MAX = 10.0


class Witness:
    """``async with Witness(broker) as witness``: hears from entry to exit. ``ends``: the first end of each work."""

    def __init__(self, broker: BrokerConfig) -> None:
        self._topics = Topics(broker.prefix)
        self._mqtt = Connection(broker, f"pamdi-witness-{uuid.uuid4().hex[:8]}", self._message)
        self._mqtt.subscribe(self._topics.source("+", "result"))
        self._task: Optional["asyncio.Task[None]"] = None
        self.ends: Dict[Tuple[str, str], str] = {}
        self.duplicated: Dict[str, int] = {}
        self.redelivered: Dict[str, int] = {}
        self.unreadable = 0

    async def __aenter__(self) -> "Witness":
        self._task = asyncio.get_running_loop().create_task(self._mqtt.run())
        try:
            await within(LISTEN_S_MAX, self._mqtt.connected.wait())
        except asyncio.TimeoutError as error:
            await self.__aexit__()
            raise Unreachable(f"the broker did not answer within {LISTEN_S_MAX:g} s: check --broker") from error
        return self

    async def __aexit__(self, *error: Any) -> None:
        if self._task is not None:
            await end([self._task])

    def _message(self, topic: str, payload: bytes, retained: bool) -> None:
        parsed = self._topics.parse(topic)
        if parsed is not None:
            self.hear(parsed.id, payload)

    def hear(self, source: str, payload: bytes) -> None:
        """One message on the source's result topic."""
        try:
            result = read_result(payload)
        except BadInput:
            self.unreadable += 1
            return
        if result.status not in ("answered", "failed"):
            return
        end = repr((result.status, result.reason, result.latency_s, result.outputs, result.path))
        first = self.ends.get((source, result.id))
        if first is None:
            self.ends[source, result.id] = end
        else:
            counts = self.redelivered if first == end else self.duplicated
            counts[source] = counts.get(source, 0) + 1
