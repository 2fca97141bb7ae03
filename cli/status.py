"""``pamdi status``: the fleet as its retained topics tell it."""

import argparse
import asyncio
import json
from typing import Any, Dict, List, Optional

import msgspec

from pamdi.cli.broker_options import add_broker_options, broker_from

LISTEN_S = 1.2  # retained topics come at once; a beacon comes at least once a second
CONNECT_S = 5.0


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "status", help="devices, slots, epoch, sources, queues, links", epilog="example: pamdi status --broker mqtt://broker:1883"
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
        "links": _links(id, watcher),
    }


def _links(id: str, watcher: Any) -> Dict[str, Any]:
    """By neighbour: what was measured of late (null: nothing yet), and what the plan counts on."""
    heard, wanted = watcher.stats.get(id), watcher.wanted.get(id)
    planned = {n.id: n for n in wanted.neighbours} if wanted is not None else {}
    probes = heard.probes if heard is not None else {}
    found: Dict[str, Any] = {}
    for peer in sorted({*planned, *probes}):
        recent = probes[peer].recent if peer in probes else None
        found[peer] = {
            "rate_bytes_per_s": recent.rate_bytes_per_s if recent is not None else None,
            "delay_s": recent.delay_s if recent is not None else None,
            "rounds": recent.rounds if recent is not None else 0,
            "planned_rate_bytes_per_s": planned[peer].rate_bytes_per_s if peer in planned else None,
            "planned_delay_s": planned[peer].delay_s if peer in planned else None,
        }
    return found


def _link_line(peer: str, link: Dict[str, Any]) -> str:
    measured = _figures(link["rate_bytes_per_s"], link["delay_s"]) or "not yet"
    planned = _figures(link["planned_rate_bytes_per_s"], link["planned_delay_s"]) or "nothing"
    return f"  link to {peer}: measured {measured}; planned with {planned}"


def _figures(rate_bytes_per_s: Optional[float], delay_s: Optional[float]) -> str:
    parts = [] if rate_bytes_per_s is None else [f"{rate_bytes_per_s / 1e6:.3g} MB/s"]
    return ", ".join(parts + ([] if delay_s is None else [f"{delay_s * 1e3:.3g} ms"]))


def lines(document: Dict[str, Any]) -> List[str]:
    """The document for people."""
    out = [f"controller {document['controller']}, epoch {document['epoch']}"]
    for id, device in document["devices"].items():
        ready = [f"{s['model']}[{s['first']}:{s['stop']}]" for s in device["segments"] if s["state"] == "ready"]
        other = [
            f"{s['model']}[{s['first']}:{s['stop']}] {s['state']} {s.get('reason', '')}".rstrip()
            for s in device["segments"]
            if s["state"] != "ready"
        ]
        queue = ", ".join(f"class {u}: {s:.3f} s" for u, s in (device["queue_s"] or {}).items()) or "nothing waits"
        out.append(f"device {id}: {device['state']}, {device['type']} at {device['address']}, epoch {device['epoch']}")
        out.append(f"  ready: {' '.join(ready) or 'nothing'}")
        out.extend(f"  {line}" for line in other)
        if device["state"] == "online":
            out.append(f"  queue: {queue}")
            out.extend(_link_line(peer, link) for peer, link in device["links"].items())
    for id, source in document["sources"].items():
        out.append(f"source {id}: {source['model']} at {source['device']}, gamma {source.get('gamma', 1.0):g}")
    return out if len(out) > 1 else [*out, "no device has said anything on this broker yet"]
