"""The search for faults: clean on the core as it is, quick to find a bug that is planted, good at making it small."""

import itertools
import json
from pathlib import Path
from typing import Callable, List

import pytest

from pamdi.cli.main import main
from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.device import Device
from pamdi.simulator.random_scenario import random_scenario
from pamdi.simulator.scenario import check_scenario, read_scenario
from pamdi.simulator.search import search, shrink, try_scenario
from pamdi.simulator.toml_text import toml_of

SEEDS = range(1, 121)  # by hand as many as wanted: pamdi simulate --search 10000
Handle = Callable[[Device, ev.AnyEvent, float], List[ins.AnyInstruction]]
handle = Device.handle


def acknowledged_before_it_is_queued(device: Device, event: ev.AnyEvent, now: float) -> List[ins.AnyInstruction]:
    """The planted bug: every tensor is acknowledged as it comes, whatever becomes of it then."""
    said = handle(device, event, now)
    if not isinstance(event, ev.Received) or not isinstance(event.message, ms.Tensor):
        return said
    rest = [i for i in said if not (isinstance(i, ins.Send) and isinstance(i.message, ms.Taken))]
    return [ins.Send(event.peer, ms.Taken(event.message.work.key)), *rest]


def admitted_before_it_is_kept(device: Device, event: ev.AnyEvent, now: float) -> List[ins.AnyInstruction]:
    said = handle(device, event, now)
    early = [ins.PublishResult(i.work, "admitted") for i in said if isinstance(i, ins.JournalOpen)]
    return [*said, *early]


def test_no_promise_is_broken_by_the_core_as_it_is() -> None:
    assert search(iter(SEEDS)) == []


@pytest.mark.parametrize(
    ("bug", "promise"),
    [
        (acknowledged_before_it_is_queued, "what is acknowledged is there"),
        (admitted_before_it_is_kept, "admitted means journaled"),
    ],
)
def test_a_planted_bug_is_found_within_a_thousand_seeds_and_made_small(
    bug: Handle, promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Device, "handle", bug)
    (failure,) = search(iter(range(1, 1001)), failures_max=1)
    assert failure.promise == promise
    scenario = random_scenario(failure.seed)
    small = shrink(scenario, failure)
    again = try_scenario(small, failure.seed)
    assert again is not None and again.promise == promise
    assert len(small.fault) <= len(scenario.fault) and len(small.device) <= len(scenario.device)
    assert sum(entry.count or 0 for entry in small.arrivals) < sum(entry.count or 0 for entry in scenario.arrivals)


def test_what_the_core_raises_is_a_failure_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(device: Device, event: ev.AnyEvent, now: float) -> List[ins.AnyInstruction]:
        if isinstance(event, ev.LinkDown):
            raise KeyError(event.peer)
        return handle(device, event, now)

    monkeypatch.setattr(Device, "handle", breaks)
    (failure,) = search(itertools.count(1), failures_max=1)
    assert failure.promise == "KeyError in test_search.py, breaks"


def test_a_number_is_a_scenario_for_ever_and_its_text_is_read_back_as_the_same(tmp_path: Path) -> None:
    for seed in range(1, 60):
        scenario = random_scenario(seed)
        check_scenario(scenario, f"seed {seed}")
        (tmp_path / "s.toml").write_text(toml_of(scenario))
        assert random_scenario(seed) == scenario == read_scenario(tmp_path / "s.toml")


def test_the_command_prints_the_seed_and_the_small_scenario_and_exits_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(Device, "handle", admitted_before_it_is_kept)
    assert main(["simulate", "--search", "3", "--first", "5", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["seeds"], document["first"], document["failures"][0]["seed"]) == (3, 5, 5)
    (tmp_path / "small.toml").write_text(document["shrunk"])
    assert main(["simulate", str(tmp_path / "small.toml"), "--check"]) == 1
    assert "admitted means journaled" in capsys.readouterr().err


def test_a_clean_search_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--search", "2"]) == 0
    assert capsys.readouterr().out == "2 seeds from 1 on: no promise was broken\n"
