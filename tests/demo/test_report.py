"""What the demo says of its figures, on screen and at the end."""

import io
from typing import Dict, List, Optional

import pytest
from rich.console import Console

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.figures import Outcome
from pamdi.client.watcher import Watcher
from pamdi.core.allocation import AllocationState, SlotState
from pamdi.core.messages import Backlog, Beacon, ClassBacklog
from pamdi.demo.load import Digits, Load
from pamdi.demo.report import Phase, accuracy_line, document_of, is_clean, kill_lines, phase_of, ratio_lines
from pamdi.demo.view import View, final_table


def ends(source: str, took: float, count: int = 4, last: Optional[Outcome] = None) -> List[Outcome]:
    """``count`` answers, one a second."""
    made = [
        Outcome(source, str(i), float(i), i + took, "answered", exact=True, correct=i > 0, uncut_correct=i > 0)
        for i in range(count)
    ]
    return [*made[:-1], last] if last is not None else made


def phase(name: str, gate_s: float, yard_s: float, last: Optional[Outcome] = None) -> Phase:
    outcomes = {"gate": ends("gate", gate_s, last=last), "yard": ends("yard", yard_s)}
    return phase_of(name, outcomes, {}, {}, [{"device": "d3", "at_s": 10.0, "down_s": 2.0}])


def test_the_ratios_compare_with_alone_and_with_no_priorities() -> None:
    alone = phase_of("alone", {"gate": ends("gate", 0.2)}, {}, {}, [])
    figures = {p.name: p.figures for p in (alone, phase("pa-mdi", 0.22, 1.0), phase("ms-mdi", 0.44, 1.0))}
    assert ratio_lines(figures) == [
        "gate, the urgent source, takes 1.10 x what it takes alone on the fleet",
        "gate takes 0.50 x what it takes without priorities (ms-mdi)",
        "yard, a normal source, keeps 1.00 x the throughput it has without priorities",
    ]
    assert ratio_lines({"ms-mdi": figures["ms-mdi"]}) == []


def test_the_document_counts_both_accuracies_over_the_same_works() -> None:
    document = document_of([phase("pa-mdi", 0.2, 1.0)], {"gate": "d0", "yard": "d1"})
    assert (document["accuracy"], document["accuracy_uncut"]) == (0.75, 0.75)
    assert (document["answers"], document["answers_bit_equal"]) == (8, 8)
    assert document["kills"] == [{"device": "d3", "at_s": 10.0, "down_s": 2.0, "policy": "pa-mdi"}]
    assert document["policies"]["pa-mdi"]["sources"]["gate"]["count"] == 4


LOST = Outcome("gate", "3", 3.0, None, "")
INEXACT = Outcome("gate", "3", 3.0, 3.2, "answered", exact=False)
FAILED = Outcome("gate", "3", 3.0, 3.2, "failed", "attempts")
RESENT = Outcome("gate", "3", 3.0, 3.2, "answered", exact=True, retried=1)


@pytest.mark.parametrize("last, clean", [(LOST, False), (INEXACT, False), (FAILED, False), (RESENT, True)])
def test_a_run_is_clean_only_when_every_work_was_answered_exactly(last: Outcome, clean: bool) -> None:
    assert is_clean([phase("pa-mdi", 0.2, 1.0, last)]) is clean


def test_an_answer_that_came_twice_is_not_clean() -> None:
    twice = phase_of("pa-mdi", {"gate": ends("gate", 0.2)}, {"gate": 1}, {"gate": 0}, [])
    said_again = phase_of("pa-mdi", {"gate": ends("gate", 0.2)}, {"gate": 0}, {"gate": 1}, [])
    assert (is_clean([twice]), is_clean([said_again])) == (False, True)


def test_the_kill_is_told_with_what_it_cost() -> None:
    assert kill_lines([phase("pa-mdi", 0.2, 1.0, RESENT)]) == [
        "pa-mdi: d3 was killed (SIGKILL) after 10.0 s and was away for 2.0 s; 1 work was handed on again or "
        "replayed, 0 lost"
    ]


def test_a_run_without_answers_still_ends_with_a_sentence() -> None:
    nothing = document_of([phase_of("pa-mdi", {"gate": [LOST]}, {}, {}, [])], {"gate": "d0"})
    assert accuracy_line(nothing) == "nothing was answered: there is no accuracy"


def drawn(table: object, width: int = 120) -> List[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue().splitlines()


def test_the_table_has_a_row_per_policy_and_source() -> None:
    one = phase("pa-mdi", 0.2, 1.0, LOST)
    lines = drawn(final_table([(one.name, s, f) for s, f in one.figures.items()], "dock has fewer"))
    cells = [line.split() for line in lines if "pa-mdi" in line]
    assert cells == [
        ["pa-mdi", "gate", "4", "3", "0", "1", "0", "200", "200", "200", "200", "1.4"],
        ["pa-mdi", "yard", "4", "4", "0", "0", "0", "1000", "1000", "1000", "1000", "1.0"],
    ]
    assert any("dock has fewer" in line for line in lines)


def test_the_table_is_whole_on_a_terminal_of_80_columns() -> None:
    slow = phase_of("pa-mdi", {"gate": ends("gate", 12.3)}, {}, {}, [])
    lines = drawn(final_table([(slow.name, "gate", slow.figures["gate"])]), width=80)
    assert [line.split() for line in lines if "gate" in line] == [
        ["pa-mdi", "gate", "4", "4", "0", "0", "0", "12300", "12300", "12300", "12300", "0.3"]
    ]


class _NoDigits(Digits):
    def __init__(self) -> None:
        """The view needs none."""


def test_the_live_view_shows_devices_segments_queues_and_sources() -> None:
    view, load = View(["d0", "d1"], "links 20 Mb/s"), Load("mqtt://127.0.0.1:1", _NoDigits(), 1, "pa-mdi")
    watcher = Watcher(BrokerConfig("mqtt://127.0.0.1:1"))
    watcher.states.update(d0="online", d1="offline")
    slots = tuple(SlotState("m", u, u + 1, "ready" if u != 1 else "loading") for u in range(3))
    watcher.held["d0"] = AllocationState(4, slots)
    watcher.beacons["d0"] = Beacon("d0", (), Backlog(0.012, (ClassBacklog(10.0, 0.05), ClassBacklog(1.0, 0.2))))
    load.wanted, load.outcomes = {"gate": 8}, {"gate": ends("gate", 0.2)}
    lines = drawn(view._picture("pa-mdi", watcher, load))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert "links 20 Mb/s" in lines[0]
    assert ["d0", "online", "0.2", "12 ms", "50 ms", "200 ms"] in rows
    assert ["d1", "offline", "", "", "", ""] in rows
    assert ["gate", "##########----------", "4/8", "200", "200"] in rows


def test_without_a_terminal_the_view_is_a_line_every_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    view, load = View(["d0"], ""), Load("mqtt://127.0.0.1:1", _NoDigits(), 1, "pa-mdi")
    out = io.StringIO()
    view.console = Console(file=out, width=40)
    clock: Dict[str, float] = {"now": 100.0}
    monkeypatch.setattr("pamdi.demo.view.time.monotonic", lambda: clock["now"])
    watcher = Watcher(BrokerConfig("mqtt://127.0.0.1:1"))
    watcher.states["d0"] = "offline"
    load.wanted, load.outcomes = {"gate": 8}, {"gate": ends("gate", 0.2)}
    for seconds in range(5):
        clock["now"] = 100.0 + seconds
        view.update("pa-mdi", watcher, load)
    assert out.getvalue().splitlines() == ["pa-mdi: gate 4/8 mean 200 ms | d0:offline"] * 3
