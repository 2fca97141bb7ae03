"""Figures are what they say they are."""

import json
from pathlib import Path
from typing import Any

from pamdi.client.figures import Outcome, percentile, source_figures, utilisation
from pamdi.core.work import Visit
from pamdi.demo.trace import write_trace

PATH = (Visit(0, 4, "d0", 0.01, 0.1, 0.0, 0.01), Visit(4, 8, "d1", 0.0, 0.1, 0.03, 0.15))


def outcome(id: str, took: float, **changes: Any) -> Outcome:
    made = Outcome("gate", id, 10.0, 10.0 + took, "answered", exact=True, correct=True, path=PATH)
    return made._replace(**changes)


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(i) for i in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]
    assert percentile([7.0], 0.5) == 7.0 and percentile([], 0.5) is None


def test_every_kind_of_end_is_counted() -> None:
    ends = [
        outcome("a", 0.1), outcome("b", 0.3, retried=1), outcome("c", 0.0, status="failed", ended_at=11.0),
        outcome("d", 0.0, status="refused", ended_at=11.0), outcome("e", 0.0, status="", ended_at=None),
        outcome("f", 0.2, exact=False),
    ]  # fmt: skip
    f = source_figures(ends, duplicated=0, redelivered=2)
    assert (f.count, f.answered, f.failed, f.refused, f.lost, f.inexact, f.resent) == (6, 3, 1, 1, 1, 1, 1)
    assert f.redelivered == 2 and f.mean_s is not None and abs(f.mean_s - 0.2) < 1e-9


def test_a_source_without_answers_has_no_figures_instead_of_zeros() -> None:
    f = source_figures([outcome("a", 0.0, status="", ended_at=None)], 0, 0)
    assert (f.mean_s, f.p99_s, f.throughput_hz) == (None, None, None)


def test_utilisation_is_the_share_of_the_time_in_which_something_was_done() -> None:
    devices, links = utilisation([outcome("a", 0.4)], {"gate": "d0"})
    assert devices == {"d0": {"utilisation": 0.25}, "d1": {"utilisation": 0.25}}
    assert links == {"d0->d1": {"utilisation": 0.075}}


def test_the_trace_shows_all_five_kinds(tmp_path: Path) -> None:
    normal = outcome("n", 0.4)._replace(source="yard", path=PATH[::-1])
    count = write_trace(tmp_path / "t.json", [outcome("a", 0.4), normal], {"gate"}, {"gate": "d0", "yard": "d0"})
    events = [e for e in json.loads((tmp_path / "t.json").read_text())["traceEvents"] if e["ph"] == "X"]
    kinds = {e["cat"] for e in events}
    assert len(events) == count
    assert {"urgent transfer", "normal transfer", "transfer ended", "result to head", "processed locally"} <= kinds
