"""``pamdi drain`` and ``pamdi reallocate``: by hand what the controller does, with its word on what came of it."""

import argparse
import asyncio
import json
import uuid
from typing import Any, Dict, Optional

from pamdi.cli.broker_options import add_broker_options, broker_from
from pamdi.cli.numbers import positive
from pamdi.core.errors import ConfigError, Unreachable
from pamdi.core.topics import Topics, valid_id

ANSWER_S = 5.0
REFUSED = "refused by the broker"


def add_parser(commands: Any) -> None:
    drain = commands.add_parser(
        "drain", help="move a device's segments elsewhere, then leave it empty", epilog="example: pamdi drain d2"
    )
    drain.add_argument("device", metavar="DEVICE")
    drain.add_argument("--undo", action="store_true", help="let the device take part again")
    reallocate = commands.add_parser(
        "reallocate", help="make the allocation anew, now", epilog="example: pamdi reallocate"
    )
    for parser, run in ((drain, _drain), (reallocate, _reallocate)):
        parser.add_argument("--wait", type=positive, default=60.0, metavar="S", help="for it to come true (60)")
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
        add_broker_options(parser)
        parser.set_defaults(run=run)


def _drain(arguments: argparse.Namespace) -> int:
    if not valid_id(arguments.device):
        raise ConfigError(f"device {arguments.device!r}: use letters, digits, _ . -, at most 64")
    broker = broker_from(arguments)
    topic = Topics(broker.prefix).device(arguments.device, "drain")
    return _say(arguments, asyncio.run(command(broker, topic, arguments.wait, on=not arguments.undo)))


def _reallocate(arguments: argparse.Namespace) -> int:
    broker = broker_from(arguments)
    topic = Topics(broker.prefix).controller("reallocate")
    return _say(arguments, asyncio.run(command(broker, topic, arguments.wait)))


def _say(arguments: argparse.Namespace, report: Dict[str, Any]) -> int:
    epoch = f"epoch {report['epoch']}"
    said = report["said"] if epoch in report["said"] else f"{report['said']} ({epoch})"
    print(json.dumps(report) if arguments.json else f"{report['status']}: {said}")
    return 0 if report["status"] == "done" else 1


async def command(broker: Any, topic: str, wait_s: float, on: bool = True) -> Dict[str, Any]:
    """Publish the command and return the controller's last report on it. Raises Unreachable when it says nothing, or
    when the broker does not accept the command."""
    from pamdi.client.loops import end, within
    from pamdi.client.mqtt import Connection

    id = uuid.uuid4().hex
    topics = Topics(broker.prefix)
    heard: "asyncio.Queue[Dict[str, Any]]" = asyncio.Queue()
    controller = ""

    def hear(topic: str, payload: bytes, retained: bool) -> None:
        nonlocal controller
        if topic == topics.controller("state"):
            controller = payload.decode("utf-8", "replace")
        else:
            _hear(payload, id, heard)

    connection = Connection(broker, f"pamdi-command-{id[:8]}", hear)
    for leaf in ("report", "state"):
        connection.subscribe(topics.controller(leaf))
    task = asyncio.ensure_future(connection.run())
    last: Optional[Dict[str, Any]] = None
    try:
        await connection.reached(ANSWER_S)
        payload = json.dumps({"id": id, "on": on}).encode()
        connection.publish(topic, payload, on_refused=lambda line: heard.put_nowait({"status": REFUSED, "said": line}))
        last = await within(ANSWER_S, heard.get())
        while last["status"] == "accepted":
            last = await within(wait_s, heard.get())
        if last["status"] == REFUSED:
            raise Unreachable(last["said"])
        return last
    except asyncio.TimeoutError as error:
        if last is not None:
            return {**last, "status": "waiting"}
        raise Unreachable(_silent(controller, broker.user)) from error
    finally:
        await end([task])


def _silent(controller: str, user: Optional[str]) -> str:
    """``controller``: what its retained state says, "" where nothing came."""
    said = f"the controller did not answer within {ANSWER_S:g} s"
    who = f"user {user}" if user else "we"
    if controller in ("offline", "stopped"):
        return f"{said}: it is {controller}: start it"
    may = f"may {who} read controller/report and write the command (examples/mosquitto.acl)?"
    return f"{said}: it is online: {may}" if controller else f"{said}: is it running, and {may}"


def _hear(payload: bytes, id: str, heard: "asyncio.Queue[Dict[str, Any]]") -> None:
    try:
        report = json.loads(payload)
    except (ValueError, RecursionError):
        return
    if isinstance(report, dict) and report.get("id") == id:
        heard.put_nowait(report)
