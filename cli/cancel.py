"""``pamdi cancel``: end a work that nobody wants any more. Its result then says failed, reason cancelled."""

import argparse
import asyncio
import json
import uuid
from typing import Any, Optional

from pamdi.cli.broker_options import add_broker_options, broker_from
from pamdi.cli.numbers import positive
from pamdi.client.loops import run_together, within
from pamdi.client.mqtt import Connection
from pamdi.client.payloads import ResultJson, read_result
from pamdi.core.errors import BadInput, Unreachable
from pamdi.core.topics import Topics, valid_id

WHY_NOT = ("unknown_work", "unknown_source", "head_away")  # what a cancellation is refused for


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "cancel", help="end one work", description=__doc__, epilog="example: pamdi cancel yard 6f1c"
    )
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("id", metavar="ID")
    parser.add_argument("--timeout", metavar="S", type=positive, default=5.0, help="wait so long (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_broker_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if not valid_id(arguments.source):
        raise BadInput(f"source {arguments.source!r}: use letters, digits, _ . -, at most 64")
    result = asyncio.run(_Cancelling(arguments).run())
    if arguments.json:
        document = {"id": result.id, "status": result.status, "reason": result.reason, "detail": result.detail}
        print(json.dumps(document))
    else:
        print(f"{arguments.source}/{result.id}: {sentence(result)}")
    return 0 if result.reason == "cancelled" else 1


def sentence(result: ResultJson) -> str:
    if result.status == "refused":
        return f"not cancelled ({result.reason}): {result.detail}"
    if result.reason == "cancelled":
        return "failed cancelled"
    return f"not cancelled: it has ended already, {result.status} {result.reason}".rstrip()


class _Cancelling:
    """Asks once the result topic is heard, and waits for the end that the work has, or for why there is none."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._broker = broker_from(arguments)
        self._topics = Topics(self._broker.prefix)
        self._ended = asyncio.Event()
        self._result: Optional[ResultJson] = None
        self._turned_away = self._controller = ""
        self._connection = Connection(self._broker, f"pamdi-cancel-{uuid.uuid4().hex[:8]}", self._heard)
        self._connection.subscribe(self._topics.source(arguments.source, "result"))
        self._connection.subscribe(self._topics.controller("state"))

    async def run(self) -> ResultJson:
        await run_together({"broker": self._connection.run(), "ask": self._ask()})
        if self._turned_away:
            raise Unreachable(self._turned_away)
        if self._result is None:
            raise Unreachable(self._no_word())
        return self._result

    def _no_word(self) -> str:
        """A head that hears this answers at once, and so does a controller that knows of no such head."""
        work = f"{self._arguments.source}/{self._arguments.id}"
        waited = f"no word within {self._arguments.timeout:g} s"
        if self._controller == "online":
            why = "its head is online but busy or out of reach of the broker: try again"
        elif self._controller:
            why = f"its head is away or there is no such source, and the controller is {self._controller}: start it"
        else:
            why = (
                "its head is away or there is no such source, and there is no controller; or we may not read the "
                "results (examples/mosquitto.acl)"
            )
        return f"{work}: {waited}: {why}"

    async def _ask(self) -> None:
        try:
            await self._connection.reached(self._arguments.timeout)
            topic = self._topics.source(self._arguments.source, "cancel")
            payload = json.dumps({"id": self._arguments.id}).encode()
            self._connection.publish(topic, payload, 1, on_refused=self._refused)
            await within(self._arguments.timeout, self._ended.wait())
        except asyncio.TimeoutError:
            return

    def _refused(self, line: str) -> None:
        self._turned_away = line
        self._ended.set()

    def _heard(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self._topics.controller("state"):
            self._controller = payload.decode("utf-8", "replace")
            return
        try:
            result = read_result(payload)
        except BadInput:
            return
        told = result.status in ("answered", "failed") or result.reason in WHY_NOT
        if result.id == self._arguments.id and told:
            self._result = result
            self._ended.set()
