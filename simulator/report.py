"""What a simulation says at its end: the document of ``pamdi simulate --json``, and the table for people."""

from typing import Any, Dict, List, NamedTuple

import msgspec

from pamdi.client.figures import SourceFigures
from pamdi.simulator.world import WARM_UP_S, World


class Run(NamedTuple):
    """One policy's run. ``span_s``: simulated seconds from the start of arrivals to the end; ``events``: heap pops;
    ``open``: works that ``duration_s`` cut off, which are not lost."""

    policy: str
    sources: Dict[str, SourceFigures]
    open: Dict[str, int]
    devices: Dict[str, float]
    links: Dict[str, float]
    media: Dict[str, float]
    span_s: float
    events: int
    counters: Dict[str, int]


def run_of(world: World) -> Run:
    ends = [
        record.ended_at
        for client in world.clients.values()
        for record in client.records.values()
        if record.ended_at is not None
    ]
    cut_off = world.settings.duration_s is not None
    until = world.heap.now if cut_off else max(ends, default=world.heap.now)
    sources = {id: client.figures() for id, client in world.clients.items()}
    still_open = {id: figures.lost if cut_off else 0 for id, figures in sources.items()}
    span_s = max(0.0, until - WARM_UP_S)
    share = 1 / span_s if span_s else 0.0
    lines = world.connections.lines
    return Run(
        world.policy,
        {id: msgspec.structs.replace(figures, lost=figures.lost - still_open[id]) for id, figures in sources.items()},
        still_open,
        {id: machine.busy_s * share for id, machine in world.machines.items()},
        {f"{a}->{b}": line.busy_s * share for (a, b), line in lines.items() if line.busy_s},
        {name: server.busy_s * share for name, server in world.connections.media.items()},
        span_s,
        world.heap.pops,
        dict(sorted(world.counters.items())),
    )


def document_of(runs: List[Run], seconds: float) -> Dict[str, Any]:
    """``seconds``: wall time of all runs together. Everything else is the same for the same scenario and seed."""
    events = sum(run.events for run in runs)
    return {
        "policies": {run.policy: _policy(run) for run in runs},
        "events": events,
        "events_per_second": events / seconds if seconds > 0 else None,
    }


def _policy(run: Run) -> Dict[str, Any]:
    sources = {id: msgspec.to_builtins(figures) for id, figures in run.sources.items()}
    for id, figures in sources.items():
        del figures["inexact"]  # nothing is computed here that could be compared
        figures["open"] = run.open[id]
    return {
        "sources": sources,
        "devices": _utilisations(run.devices),
        "links": _utilisations(run.links),
        "media": _utilisations(run.media),
        "simulated_s": run.span_s,
        "events": run.events,
        "counters": run.counters,
    }


def _utilisations(shares: Dict[str, float]) -> Dict[str, Dict[str, float]]:
    return {name: {"utilisation": round(share, 6)} for name, share in sorted(shares.items())}


COLUMNS = ("policy", "source", "count", "answered", "failed", "lost", "dup.", "mean", "p50", "p95", "p99", "works/s")
ROWS_MAX = 60


def table(runs: List[Run]) -> List[str]:
    """Lines of text; latencies in milliseconds, submit to answer."""
    rows = [list(COLUMNS)]
    for run in runs:
        for id, figures in run.sources.items():
            rows.append(_row(run.policy, id, figures))
    left_out = max(0, len(rows) - 1 - ROWS_MAX)
    rows = rows[: ROWS_MAX + 1]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    if left_out:
        lines.append(f"... and {left_out} more rows: --json has them all")
    return [*lines, *_use_lines(runs)]


def _row(policy: str, id: str, f: SourceFigures) -> List[str]:
    times = ["-" if s is None else f"{1000 * s:.0f}" for s in (f.mean_s, f.p50_s, f.p95_s, f.p99_s)]
    rate = "-" if f.throughput_hz is None else f"{f.throughput_hz:.2f}"
    counts = [str(n) for n in (f.count, f.answered, f.failed + f.refused, f.lost, f.duplicated)]
    return [policy, id, *counts, *times, rate]


def _use_lines(runs: List[Run]) -> List[str]:
    lines = []
    for run in runs:
        busiest = sorted(run.devices.items(), key=lambda entry: -entry[1])[:8]
        used = ", ".join(f"{id} {100 * share:.0f} %" for id, share in busiest)
        lines.append(f"{run.policy}: {run.span_s:.1f} simulated seconds, busiest devices: {used}")
    return lines
