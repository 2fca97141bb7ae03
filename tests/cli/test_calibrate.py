"""``pamdi calibrate latency`` as a person calls it, on a clock that the back end moves."""

import json
from pathlib import Path
from typing import List

import pytest

from pamdi.calibration.table import read_table
from pamdi.cli.main import main
from pamdi.engines.backend import Backend
from tests.calibration.made import TimedBackend
from tests.daemon.running import MODEL, STORE

FOLDER = str(STORE / MODEL)
LATENCY = ["calibrate", "latency", FOLDER, "--device", "test-board"]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TimedBackend:
    timed = TimedBackend([0.01, 0.02, 0.03, 0.04])

    def opened(name: str, threads: int = 1) -> Backend:
        return timed

    monkeypatch.setattr("pamdi.engines.open_backend.open_backend", opened)
    monkeypatch.setattr("time.perf_counter", timed.clock)
    monkeypatch.chdir(tmp_path)
    return timed


def test_it_writes_the_table_where_a_fleet_beside_it_finds_it(
    backend: TimedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*LATENCY, "--batch", "1,2", "--segments", "all", "--json"]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert (said["model"], said["runs"], said["table"]) == (MODEL, 8, "calibration/tables/test-board.toml")
    assert {batch: round(seconds, 6) for batch, seconds in said["chain_s"].items()} == {"1": 0.1, "2": 0.2}
    assert "power mode" in err and "pass 3/3, batch 2, all units, one after the other: 200.000 ms" in err
    (model,) = read_table(Path("calibration/tables/test-board.toml")).model
    assert (model.measured, model.backend, model.precision, model.options) == (
        True,
        "stub 1 on none",
        "none",
        "threads 1",
    )
    assert [round(run.seconds, 6) for run in model.runs[:4]] == [0.01, 0.02, 0.03, 0.04]


def test_it_prints_what_goes_into_the_controllers_configuration(
    backend: TimedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(LATENCY) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "for [model.seconds] of controller.toml: test-board = [0.01, 0.02, 0.03, 0.04]"


def test_a_machine_that_is_no_such_board_makes_no_table_of_it(
    backend: TimedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", "latency", FOLDER, "--device", "orin-nano"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("pamdi: --device orin-nano: this machine is none (") and said.count("\n") == 1
    assert not Path("calibration").exists()


def test_a_mistyped_board_is_no_type_of_its_own(backend: TimedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "latency", FOLDER, "--device", "orinnano"]) == 1
    assert capsys.readouterr().err == (
        "pamdi: --device orinnano: did you mean orin-nano? A type of your own needs a name less like it\n"
    )


def test_a_board_that_changed_between_parts_and_whole_leaves_no_table(
    backend: TimedBackend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = backend.run
    loaded: List[int] = []

    def hotter(handle: object, tensors: object) -> object:
        loaded.append(sum(backend.loaded.values()))
        backend.factor = 2.0 if loaded[-1] > 1 else 1.0  # the chain alone holds several segments
        return run(handle, tensors)  # type: ignore[arg-type]

    monkeypatch.setattr(backend, "run", hotter)
    assert main(LATENCY) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "does not add up: the units' sum is 0.100000 s, in a chain they take 0.200000 s" in last
    assert not Path("calibration/tables/test-board.toml").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--batch", "0"], "--batch 0: write whole numbers from 1"),
        (["--segments", "0-4"], "write FIRST:STOP"),
        (["--segments", "0:3"], "no segment 0:3 here"),
        (["--width", "2"], "--width must be in (0, 1)"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    options: List[str], says: str, backend: TimedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*LATENCY, *options]) == 1
    assert says in capsys.readouterr().err.splitlines()[-1]
