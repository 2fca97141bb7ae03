"""``pamdi cancel``: end a work that nobody wants any more. Its result then says failed, reason cancelled."""

import argparse
import asyncio
import json
import uuid
from typing import Any, Optional

from pamdi.cli.broker_options import add_broker_options, broker_from
from pamdi.cli.numbers import positive
from pamdi.client.loops import run_together
from pamdi.client.mqtt import Connection
from pamdi.client.payloads import ResultJson, read_result
from pamdi.core.errors import BadInput, Unreachable
from pamdi.core.topics import Topics, valid_id


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
    result = asyncio.run(_cancel(arguments))
    if arguments.json:
        print(json.dumps({"id": result.id, "status": result.status, "reason": result.reason}))
    else:
        print(f"{arguments.source}/{result.id}: {result.status} {result.reason}".rstrip())
    return 0 if result.reason == "cancelled" else 1


async def _cancel(arguments: argparse.Namespace) -> ResultJson:
    return await _Cancelling(arguments).run()


class _Cancelling:
    """Asks once the result topic is heard, and waits for the end that the work then has."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._broker = broker_from(arguments)
        self._topics = Topics(self._broker.prefix)
        self._ended = asyncio.Event()
        self._result: Optional[ResultJson] = None
        self._connection = Connection(self._broker, f"pamdi-cancel-{uuid.uuid4().hex[:8]}", self._heard)
        self._connection.subscribe(self._topics.source(arguments.source, "result"))

    async def run(self) -> ResultJson:
        await run_together({"broker": self._connection.run(), "ask": self._ask()})
        if self._result is None:
            source, id, waited_s = self._arguments.source, self._arguments.id, self._arguments.timeout
            raise Unreachable(f"{source}/{id}: no word within {waited_s:g} s: it is not open, or its head is away")
        return self._result

    async def _ask(self) -> None:
        try:
            await self._connection.reached(self._arguments.timeout)
            topic = self._topics.source(self._arguments.source, "cancel")
            self._connection.publish(topic, json.dumps({"id": self._arguments.id}).encode(), 1)
            await asyncio.wait_for(self._ended.wait(), self._arguments.timeout)
        except asyncio.TimeoutError:
            return

    def _heard(self, topic: str, payload: bytes, retained: bool) -> None:
        try:
            result = read_result(payload)
        except BadInput:
            return
        if result.id == self._arguments.id and result.status in ("answered", "failed"):
            self._result = result
            self._ended.set()
