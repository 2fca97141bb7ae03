"""``pamdi allocate``: plan.json, the table, and one line for what cannot be."""

import json
from pathlib import Path
from typing import Any, List

import pytest

from pamdi.cli.main import main

FLEET = """
[[device]]
id = "a"
type = "xavier"
memory_bytes = {memory}
[[device]]
id = "b"
type = "{kind}"
memory_bytes = 100
{link}
[[model]]
id = "net"
units = ["stem", "head"]
bytes = [1000, 2000, 10]
memory = [60, 50]
[model.seconds]
xavier = [0.01, 0.02]
[[source]]
id = "gate"
model = "net"
device = "a"
gamma = 10.0
rate_hz = {rate}
[[source]]
id = "yard"
model = "net"
device = "a"
rate_hz = {rate}
"""
LINK = '[[link]]\nfrom = "a"\nto = "b"\nrate_bytes_per_s = 1e6\n'


def written(tmp_path: Path, memory: int = 200, kind: str = "xavier", link: str = LINK, rate: float = 5.0) -> str:
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET.format(memory=memory, kind=kind, link=link, rate=rate), encoding="utf-8")
    return str(path)


def test_the_fleet_among_the_examples_has_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[2] / "examples" / "fleet.toml"
    routes = plan(str(path), capsys)["routes"]
    assert sorted(routes) == ["gate", "yard"]
    for found in routes.values():
        assert sum(route["fraction"] for route in found) == pytest.approx(1.0)


def plan(path: str, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    assert main(["allocate", path, "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def complaint(path: str, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["allocate", path, *more]) == 1
    lines: List[str] = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_exact_prints_the_whole_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """160 bytes hold the model once: whole, or cut so that the urgent source waits for one unit at most."""
    gate = 0.5 * (0.03**2 + 0.01**2 + 0.02**2) / (1 - 0.03) + 0.03
    yard = 0.5 * (0.03**2 + 0.03**2) / ((1 - 0.03) * (1 - 0.06)) + 0.01 / (1 - 0.03) + 0.02
    visits = [{"first": 0, "stop": 1, "device": "a"}, {"first": 1, "stop": 2, "device": "a"}]
    assert plan(written(tmp_path, memory=160, rate=1.0, link=""), capsys, "--solver", "exact") == {
        "solver": "exact",
        "objective": pytest.approx(10 * gate + yard, rel=1e-12),
        "bound": pytest.approx(0.33, rel=1e-6),
        "routes": {
            "gate": [{"fraction": 1.0, "latency_s": pytest.approx(gate, rel=1e-12), "visits": visits}],
            "yard": [{"fraction": 1.0, "latency_s": pytest.approx(yard, rel=1e-12), "visits": visits}],
        },
        "residents": {
            "a": [{"model": "net", "first": 0, "stop": 1}, {"model": "net", "first": 1, "stop": 2}],
        },
    }


def test_fast_is_no_dearer_here_and_the_table_names_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path)
    best = plan(path, capsys, "--solver", "exact")
    assert plan(path, capsys)["objective"] <= best["objective"] * (1 + 1e-12)
    assert main(["allocate", path]) == 0
    said = capsys.readouterr().out
    assert "fast: J " in said
    assert "a[0:2]" in said
    assert "net[0:2]" in said
    assert "fills spare memory with copies (3 units here)" in said


@pytest.mark.parametrize("solver", ["fast", "exact"])
def test_what_cannot_be_is_one_line_with_the_source_and_by_how_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], solver: str
) -> None:
    def said(**changes: Any) -> str:
        return complaint(written(tmp_path, **changes), capsys, "--solver", solver)

    assert "source gate: net[0:1] needs 60 bytes, the largest memory in reach is 40 (a): 20 too few" in said(
        memory=40, link=""
    )
    assert "source gate: net needs 110 bytes, the 1 devices in reach of a have 80: 30 too few" in said(
        memory=80, link=""
    )
    assert "1 devices have no link to it" in said(memory=80, link="")
    assert "source yard: device a would have 1.2 s of work per second, at most 1 can be done" in said(
        rate=20.0, link=""
    )
    assert "lower rate_hz = 20 by more than 6.67" in said(rate=20.0, link="")
    assert "model net has no seconds for device type nano" in said(kind="nano")
    assert "source gate: gamma and rate_hz must be positive" in said(rate=0.0)


def test_a_plan_in_force_is_kept_unless_moving_pays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = plan(written(tmp_path), capsys)
    kept = tmp_path / "plan.json"
    kept.write_text(json.dumps(before), encoding="utf-8")
    slower = written(tmp_path, rate=5.01)
    assert main(["allocate", slower, "--previous", str(kept)]) == 0
    assert "the old plan is kept: another would gain 0.00% of J - J0 for 0 engines to load" in capsys.readouterr().out
    assert (
        plan(slower, capsys, "--previous", str(kept))["routes"]["gate"][0]["visits"]
        == (before["routes"]["gate"][0]["visits"])
    )
    assert main(["allocate", written(tmp_path, memory=100), "--previous", str(kept)]) == 0
    said = capsys.readouterr().out
    assert "the old plan is not possible any more: " in said


def test_a_previous_plan_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "plan.json"
    wrong.write_text('{"routes": 3}', encoding="utf-8")
    assert "not a plan.json" in complaint(written(tmp_path), capsys, "--previous", str(wrong))
