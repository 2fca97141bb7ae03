"""``pamdi status``: the fleet as its retained topics tell it."""

import argparse
import asyncio
import json
from typing import Any, Dict, List

import msgspec

from pamdi.cli.broker_options import add_broker_options, broker_from
from pamdi.cli.runs import runs

LISTEN_S = 1.2  # retained topics come at once; a beacon comes at least once a second
CONNECT_S = 5.0


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "status", help="devices, slots, epoch, sources, queues", epilog="example: pamdi status --broker mqtt://broker:1883"
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    add_broker_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    document = asyncio.run(look(broker_from(arguments)))
    if arguments.json:
        print(json.dumps(document, indent=1))
    else:
        print("\n".join(lines(document)))
    return 0


async def look(broker: Any) -> Dict[str, Any]:
    """Listen for a moment; the fleet as a plain document. Raises Unreachable."""
    from pamdi.client.watcher import Watcher

    watcher = Watcher(broker)
    await watcher.start()
    assert watcher.mqtt is not None
    try:
        await watcher.mqtt.reached(CONNECT_S)
        await asyncio.sleep(LISTEN_S)
    finally:
        await watcher.stop()
    devices = {id: _device(id, watcher) for id in sorted({*watcher.states, *watcher.infos})}
    sources = {id: msgspec.to_builtins(source) for id, source in sorted(watcher.sources.items())}
    epochs = [allocation.epoch for allocation in watcher.wanted.values()]
    return {"controller": watcher.controller, "epoch": max(epochs, default=0), "devices": devices, "sources": sources}


def _device(id: str, watcher: Any) -> Dict[str, Any]:
    info, held, beacon = watcher.infos.get(id), watcher.held.get(id), watcher.beacons.get(id)
    return {
        "state": watcher.states.get(id, "unknown"),
        "type": info.type if info is not None else None,
        "address": f"{info.host}:{info.port}" if info is not None else None,
        "epoch": held.epoch if held is not None else None,
        "segments": msgspec.to_builtins(held.segments) if held is not None else [],
        "queue_s": {str(c.urgency): c.seconds for c in beacon.backlog.classes} if beacon is not None else None,
        "running_s": beacon.backlog.running_s if beacon is not None else None,
    }


def lines(document: Dict[str, Any]) -> List[str]:
    """The document for people."""
    out = [f"controller {document['controller']}, epoch {document['epoch']}"]
    for id, device in document["devices"].items():
        other = [
            f"{s['model']}[{s['first']}:{s['stop']}] {s['state']} {s.get('reason', '')}".rstrip()
            for s in device["segments"]
            if s["state"] != "ready"
        ]
        queue = ", ".join(f"class {u}: {s:.3f} s" for u, s in (device["queue_s"] or {}).items()) or "nothing waits"
        out.append(f"device {id}: {device['state']}, {device['type']} at {device['address']}, epoch {device['epoch']}")
        if device["state"] != "online":
            continue  # what it held is history
        out.append(f"  ready: {', '.join(_ready(device['segments'])) or 'nothing'}")
        out.extend(f"  {line}" for line in other)
        out.append(f"  queue: {queue}")
    for id, source in document["sources"].items():
        head = document["devices"].get(source["device"], {}).get("state", "unknown")
        away = "" if head == "online" else f", which is {head}: it takes no works until it is back"
        out.append(f"source {id}: {source['model']}, gamma {source.get('gamma', 1.0):g}, at {source['device']}{away}")
    return out if len(out) > 1 else [*out, "no device has said anything on this broker yet"]


def _ready(segments: List[Dict[str, Any]]) -> List[str]:
    """The ready segments in the fewest words; of a run, how many it is made of."""
    ready = sorted((s["model"], s["first"], s["stop"]) for s in segments if s["state"] == "ready")
    return [f"{run} in {run.parts} segments" if run.parts > 1 else str(run) for run in runs(ready)]
