"""``pamdi submit``: send works from files, print their answers.

A .npy file holds one input, which ``--input`` names; an .npz file holds every input under its name.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from pamdi.cli.broker_options import add_broker_options, broker_from
from pamdi.cli.numbers import positive, seconds
from pamdi.cli.runs import runs
from pamdi.client.client import Answer, Client
from pamdi.core.errors import BadInput, PamdiError
from pamdi.core.topics import valid_id

EXAMPLE = "example: pamdi submit gate image.npy --input image --priority 10 --deadline 0.5"
WORKS_AT_ONCE = 16
SILENT_S = 5.0  # without a single answer; then a line says what goes on


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("submit", help="send works, print answers", description=__doc__, epilog=EXAMPLE)
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help=".npy or .npz, one work each")
    parser.add_argument("--input", metavar="NAME", default="image", help="the input in a .npy file (default image)")
    parser.add_argument("--id", metavar="ID", help="id of the work (one FILE only; default: a new one)")
    parser.add_argument("--priority", metavar="G", type=positive, help="gamma; capped by the source's gamma_max")
    parser.add_argument("--deadline", metavar="S", type=positive, help="seconds after which the answer is worthless")
    parser.add_argument("--timeout", metavar="S", type=positive, default=60.0, help="wait so long (default 60)")
    parser.add_argument(
        "--retry", metavar="S", type=seconds, default=0.0, help="try passing refusals again for so long"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_broker_options(parser)
    parser.set_defaults(run=_run)


def read_inputs(path: Path, name: str) -> Dict[str, "np.ndarray"]:
    """The inputs in a file; pickled objects are not read. Raises BadInput."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {name: loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "not a .npy or .npz file of plain numbers"
        raise BadInput(f"{path}: {reason}: give an array saved by numpy.save or numpy.savez") from error


def _run(arguments: argparse.Namespace) -> int:
    if not valid_id(arguments.source):
        raise BadInput(f"source {arguments.source!r}: use letters, digits, _ . -, at most 64")
    if arguments.id is not None and len(arguments.files) > 1:
        raise BadInput("--id names one work: give one FILE with it")
    documents = asyncio.run(_submit(arguments))
    if arguments.json:
        print(json.dumps({"source": arguments.source, "answers": documents}, indent=1))
    return 0 if all(document["status"] == "answered" for document in documents) else 1


async def _submit(arguments: argparse.Namespace) -> List[Dict[str, Any]]:
    works = [read_inputs(path, arguments.input) for path in arguments.files]
    room = asyncio.Semaphore(WORKS_AT_ONCE)
    broker = broker_from(arguments)
    async with Client(broker, retry_refused_s=arguments.retry) as client:
        await client.connected(min(10.0, arguments.timeout))
        silence = asyncio.get_running_loop().call_later(SILENT_S, _say_silence, arguments.timeout)

        async def one(path: Path, inputs: Dict[str, "np.ndarray"]) -> Dict[str, Any]:
            async with room:
                document = await _ask(client, arguments, path, inputs)
            silence.cancel()
            print(_sentence(document), file=sys.stderr if arguments.json else sys.stdout, flush=True)
            return document

        return list(await asyncio.gather(*(one(path, inputs) for path, inputs in zip(arguments.files, works))))


def _say_silence(timeout_s: float) -> None:
    print(
        f"no answer after {SILENT_S:g} s: waiting for {timeout_s:g} s in all (--timeout); `pamdi status` shows whether "
        "the source's device and the controller are there",
        file=sys.stderr, flush=True,
    )  # fmt: skip


async def _ask(
    client: Client, arguments: argparse.Namespace, path: Path, inputs: Dict[str, "np.ndarray"]
) -> Dict[str, Any]:
    """One work's end as a document; a work without one is ``lost``, and the others go on."""
    try:
        answer = await client.submit(
            arguments.source, inputs, arguments.id, arguments.priority, arguments.deadline, arguments.timeout
        )
    except PamdiError as error:
        return {"file": str(path), "id": arguments.id, "status": "lost", "reason": "unreachable", "detail": str(error)}
    return {"file": str(path), **_document(answer)}


def _document(answer: Answer) -> Dict[str, Any]:
    outputs = {
        name: {"dtype": array.dtype.name, "shape": list(array.shape), "values": _finite(array.tolist())}
        for name, array in answer.outputs.items()
    }
    path = [
        {"first": v.first, "stop": v.stop, "device": v.device, "queue_s": v.queue_s, "compute_s": v.compute_s,
         "transfer_s": v.transfer_s}
        for v in answer.path
    ]  # fmt: skip
    return {
        "id": answer.id, "status": answer.status, "reason": answer.reason, "detail": answer.detail,
        "latency_s": answer.latency_s, "outputs": outputs, "path": path,
    }  # fmt: skip


def _finite(values: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not np.isfinite(values) else values


def _sentence(document: Dict[str, Any]) -> str:
    head = f"{document['file']}: {document['status']}"
    if document["status"] == "lost":
        return f"{document['file']}: no answer: {document['detail']}"
    if document["status"] != "answered":
        named = ": name it with --input NAME" if document["detail"].startswith("inputs are ['image'];") else ""
        return f"{head} ({document['reason']}): {document['detail']}{named}"
    visits = ((visit["device"], visit["first"], visit["stop"]) for visit in document["path"])
    devices = " > ".join(str(run) for run in runs(visits))
    outputs = ", ".join(_shown(name, output) for name, output in document["outputs"].items())
    return f"{head} in {document['latency_s'] or 0.0:.4f} s by {devices or 'its head'}: {outputs}"


def _shown(name: str, output: Dict[str, Any]) -> str:
    """An output in a few words: its shape, and for one row of scores the largest."""
    text = f"{name} {output['dtype']} {output['shape']}"
    row: Optional[List[Any]] = output["values"]
    while isinstance(row, list) and len(row) == 1:
        row = row[0]
    if isinstance(row, list) and row and all(isinstance(value, (int, float)) for value in row):
        text += f", largest at {int(np.argmax(np.asarray(row)))}"
    return text
