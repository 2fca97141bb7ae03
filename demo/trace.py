"""The schedule as a picture: a Chrome / Perfetto trace of every work over every device, from the answers' paths.

Three groups of rows: *devices*, what each computed; *links*, what came to each device over the mesh (tensors and
results); *sources*, whole works from submission to answer. A work's path carries ages, and its submission is an
instant of the demo's clock, so no common clock is needed.

Slices of one row must not overlap, or viewers nest or drop them. A device computes one segment at a time, so where two
seem to overlap (the age begins when the head has the work, a moment after its submission) the later one is cut. Links
and sources do carry several things at once: each of their rows splits into as many lanes as it needs.
"""

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Set, Tuple

from pamdi.client.figures import Outcome

URGENT_COLOUR, NORMAL_COLOUR = "thread_state_running", "thread_state_iowait"  # names that chrome://tracing knows
MARK_S = 1e-6  # an instant, drawn as the shortest slice
GROUPS = ("devices", "links", "sources")


class Slice(NamedTuple):
    """One thing that took from ``start`` to ``stop`` (seconds of the demo's clock) on ``row`` of ``group``."""

    group: str
    row: str
    start: float
    stop: float
    name: str
    kind: str
    urgent: bool
    work: str


def write_trace(path: Path, outcomes: Sequence[Outcome], urgent: Set[str], heads: Dict[str, str]) -> int:
    """Write the trace; returns the number of slices. ``urgent``: sources; ``heads``: the device of each source."""
    slices = [
        piece
        for outcome in outcomes
        if outcome.ended_at is not None
        for piece in slices_of(outcome, outcome.source in urgent, heads[outcome.source])
    ]
    began = min((piece.start for piece in slices), default=0.0)
    events, names = [], {(GROUPS.index(group) + 1, 0): group for group in GROUPS}
    rows: Dict[Tuple[str, str], int] = {}
    for piece, row in in_lanes(slices):
        pid = GROUPS.index(piece.group) + 1
        tid = rows.setdefault((piece.group, row), len(rows) + 1)
        names[pid, tid] = row
        events.append(_event(piece, pid, tid, began))
    path.write_text(json.dumps({"traceEvents": [*_names(names), *events], "displayTimeUnit": "ms"}))
    return len(events)


def slices_of(outcome: Outcome, urgent: bool, head: str) -> Iterator[Slice]:
    """One answered work: what each device and link did for it, and the whole."""
    assert outcome.ended_at is not None
    klass = "urgent" if urgent else "normal"
    work = f"{outcome.source}/{outcome.id}"

    def piece(group: str, row: str, start: float, stop: float, name: str, kind: str) -> Slice:
        return Slice(group, row, start, stop, name, kind, urgent, work)

    yield piece("sources", outcome.source, outcome.submitted_at, outcome.ended_at, work, f"{klass} work")
    before, done = head, outcome.submitted_at
    for visit in outcome.path:
        name = f"{work} [{visit.first}:{visit.stop}]"
        start = outcome.submitted_at + visit.at_s
        done = start + visit.compute_s
        if visit.device != before:
            arrived = start - visit.queue_s
            way = f"{before} to {visit.device}: {name}"
            yield piece("links", f"to {visit.device}", arrived - visit.transfer_s, arrived, way, f"{klass} transfer")
            yield piece("links", f"to {visit.device}", arrived, arrived + MARK_S, name, "transfer ended")
        kind = "processed locally" if visit.device == head else f"{klass} processed"
        yield piece("devices", visit.device, start, done, name, kind)
        before = visit.device
    if before != head:
        yield piece("links", f"to {head}", done, outcome.ended_at, f"{before} to {head}: {work}", "result to head")


def in_lanes(slices: Sequence[Slice]) -> List[Tuple[Slice, str]]:
    """Every slice with the name of its lane, in which nothing overlaps it. Devices have one lane, see above."""
    free_at: Dict[Tuple[str, str], List[float]] = {}
    placed = []
    for piece in sorted(slices, key=lambda piece: (piece.group, piece.row, piece.start, piece.stop)):
        lanes = free_at.setdefault((piece.group, piece.row), [])
        lane = next((i for i, free in enumerate(lanes) if free <= piece.start), len(lanes))
        if piece.group == "devices" and lanes:
            lane = 0
            piece = piece._replace(start=max(piece.start, lanes[0]), stop=max(piece.stop, lanes[0]))
        lanes[lane : lane + 1] = [piece.stop]
        placed.append((piece, piece.row if lane == 0 else f"{piece.row} ({lane + 1})"))
    return placed


def _event(piece: Slice, pid: int, tid: int, began: float) -> Dict[str, Any]:
    """In whole microseconds; both ends are rounded, so that neighbours stay neighbours."""
    start, stop = round((piece.start - began) * 1e6), round((piece.stop - began) * 1e6)
    return {
        "ph": "X", "pid": pid, "tid": tid, "name": piece.name, "cat": piece.kind, "ts": start, "dur": stop - start,
        "cname": URGENT_COLOUR if piece.urgent else NORMAL_COLOUR, "args": {"work": piece.work, "kind": piece.kind},
    }  # fmt: skip


def _names(names: Dict[Tuple[int, int], str]) -> Iterator[Dict[str, Any]]:
    """Row titles, and the order of the rows: as they were made, which is by name and lane."""
    for (pid, tid), name in names.items():
        what = "process" if tid == 0 else "thread"
        at = {"ph": "M", "pid": pid, "tid": tid}
        yield {**at, "name": f"{what}_name", "args": {"name": name}}
        yield {**at, "name": f"{what}_sort_index", "args": {"sort_index": tid or pid}}
