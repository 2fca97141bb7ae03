"""The schedule as a picture: a Chrome / Perfetto trace of every work over every device, from the answers' paths.

Rows: one per device for what it computed, one per device for what came to it over links, one per source for whole
works. A work's path carries ages, and its submission is an instant of the demo's clock, so no common clock is needed.
"""

import json
from pathlib import Path
from typing import Any, Dict, List

from pamdi.demo.figures import Outcome

COLOURS = {True: "thread_state_running", False: "thread_state_iowait"}  # names that the viewers know


def write_trace(path: Path, outcomes: List[Outcome], urgent: "set[str]", heads: Dict[str, str]) -> int:
    """Write the trace; returns the number of events."""
    start = min((o.submitted_at for o in outcomes), default=0.0)
    events: List[Dict[str, Any]] = []
    rows: Dict[str, int] = {}
    for outcome in outcomes:
        if outcome.ended_at is not None:
            events.extend(_events(outcome, start, outcome.source in urgent, heads, rows))
    names = [
        {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": row}} for row, tid in rows.items()
    ]
    path.write_text(json.dumps({"traceEvents": names + events, "displayTimeUnit": "ms"}))
    return len(events)


def _events(
    outcome: Outcome, start: float, urgent: bool, heads: Dict[str, str], rows: Dict[str, int]
) -> List[Dict[str, Any]]:
    klass = "urgent" if urgent else "normal"
    work = f"{outcome.source}/{outcome.id}"
    head = before = heads[outcome.source]
    assert outcome.ended_at is not None

    def event(row: str, name: str, kind: str, at: float, seconds: float) -> Dict[str, Any]:
        return {
            "ph": "X", "pid": 1, "tid": rows.setdefault(row, len(rows) + 1), "name": name, "cat": kind,
            "ts": round((at - start) * 1e6), "dur": max(1, round(seconds * 1e6)), "cname": COLOURS[urgent],
            "args": {"work": work, "kind": kind},
        }  # fmt: skip

    whole = outcome.ended_at - outcome.submitted_at
    events = [event(f"source {outcome.source}", work, f"{klass} work", outcome.submitted_at, whole)]
    for visit in outcome.path:
        at = outcome.submitted_at + visit.at_s
        name = f"{work} [{visit.first}:{visit.stop}]"
        kind = "processed locally" if visit.device == head else f"{klass} processed"
        if visit.device != before:
            arrived = at - visit.queue_s
            events.append(
                event(f"to {visit.device}", f"{before} to {visit.device}: {name}", f"{klass} transfer",
                      arrived - visit.transfer_s, visit.transfer_s)
            )  # fmt: skip
            events.append(event(f"to {visit.device}", name, "transfer ended", arrived, 0.0))
        events.append(event(f"device {visit.device}", name, kind, at, visit.compute_s))
        before = visit.device
    if outcome.path and before != head:
        last = outcome.path[-1]
        done = outcome.submitted_at + last.at_s + last.compute_s
        events.append(
            event(f"to {head}", f"{before} to {head}: {work}", "result to head", done, outcome.ended_at - done)
        )
    return events
