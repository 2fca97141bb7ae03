"""A trace that viewers can draw: every row by name, and nothing in a row on top of anything else."""

import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

from pamdi.client.figures import Outcome
from pamdi.core.work import Visit
from pamdi.demo.trace import Slice, in_lanes, slices_of, write_trace

HEADS = {"gate": "d0", "yard": "d1"}


def outcome(source: str, id: str, submitted_at: float, path: Tuple[Visit, ...]) -> Outcome:
    return Outcome(source, id, submitted_at, submitted_at + 0.5, "answered", path=path)


AWAY = (Visit(0, 4, "d0", 0.0, 0.1, 0.0, 0.01), Visit(4, 8, "d1", 0.02, 0.1, 0.03, 0.2))


def test_a_work_is_drawn_from_submission_to_answer() -> None:
    drawn = [(s.group, s.row, round(s.start, 3), round(s.stop, 3), s.kind) for s in slices_of(
        outcome("gate", "a", 10.0, AWAY), True, "d0"
    )]  # fmt: skip
    assert drawn == [
        ("sources", "gate", 10.0, 10.5, "urgent work"),
        ("devices", "d0", 10.01, 10.11, "processed locally"),
        ("links", "to d1", 10.15, 10.18, "urgent transfer"),
        ("links", "to d1", 10.18, 10.18, "transfer ended"),
        ("devices", "d1", 10.2, 10.3, "urgent processed"),
        ("links", "to d0", 10.3, 10.5, "result to head"),
    ]


def test_a_work_that_ends_at_its_head_has_no_result_to_carry() -> None:
    local = (Visit(0, 8, "d1", 0.0, 0.4, 0.0, 0.0),)
    assert [s.kind for s in slices_of(outcome("yard", "b", 0.0, local), False, "d1")] == [
        "normal work", "processed locally",
    ]  # fmt: skip


def lane(row: str, start: float, stop: float, group: str = "links") -> Slice:
    return Slice(group, row, start, stop, "", "", False, "")


def test_what_overlaps_on_a_link_gets_a_lane_of_its_own() -> None:
    slices = [lane("to d1", 0.0, 2.0), lane("to d1", 1.0, 3.0), lane("to d1", 2.0, 4.0), lane("to d2", 1.0, 2.0)]
    assert [(s.start, row) for s, row in in_lanes(slices)] == [
        (0.0, "to d1"), (1.0, "to d1 (2)"), (2.0, "to d1"), (1.0, "to d2"),
    ]  # fmt: skip


def test_a_device_has_one_lane_and_the_later_slice_is_cut() -> None:
    slices = [lane("d0", 0.0, 1.0, "devices"), lane("d0", 0.9, 1.5, "devices"), lane("d0", 1.1, 1.2, "devices")]
    assert [(s.start, s.stop, row) for s, row in in_lanes(slices)] == [
        (0.0, 1.0, "d0"), (1.0, 1.5, "d0"), (1.5, 1.5, "d0"),
    ]  # fmt: skip


def test_no_two_slices_of_a_written_row_overlap(tmp_path: Path) -> None:
    outcomes = [outcome("gate" if i % 2 else "yard", str(i), i * 0.07, AWAY) for i in range(20)]
    unanswered = Outcome("gate", "lost", 0.0, None, "")
    count = write_trace(tmp_path / "t.json", [*outcomes, unanswered], {"gate"}, HEADS)
    events: List[Dict[str, Any]] = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    rows: Dict[Tuple[int, int], List[Tuple[int, int]]] = {}
    for event in events:
        if event["ph"] == "X":
            rows.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    # Gate's works end away from their head d0; yard's head is d1: it sends to d0 first, and ends at home.
    assert count == sum(map(len, rows.values())) == 10 * 6 + 10 * 7
    for spans in rows.values():
        assert all(earlier[1] <= later[0] for earlier, later in zip(sorted(spans), sorted(spans)[1:]))
    titles = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"].endswith("_name")}
    assert set(rows) < set(titles) and {"devices", "links", "sources", "d0", "to d1", "gate"} <= set(titles.values())
