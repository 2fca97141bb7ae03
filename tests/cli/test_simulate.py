"""``pamdi simulate`` at the command line: one document on standard output, a table for people, one line for errors."""

import json
from pathlib import Path

import pytest

from pamdi.cli.main import main
from tests.simulator.test_scenario import GOOD

KEYS = {
    "count", "answered", "failed", "refused", "lost", "duplicated", "redelivered", "mean_s", "p50_s", "p95_s", "p99_s",
    "throughput_hz",
}  # fmt: skip


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    (tmp_path / "s.toml").write_text(GOOD)
    return str(tmp_path / "s.toml")


def test_json_is_one_document_on_standard_output(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", scenario, "--policy", "pa-mdi,local", "--seed", "4", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert list(document["policies"]) == ["pa-mdi", "local"] and document["events_per_second"] > 0
    entry = document["policies"]["local"]
    assert set(entry["sources"]["gate"]) >= KEYS and entry["sources"]["gate"]["answered"] == 10
    assert entry["devices"]["a"]["utilisation"] > 0 and set(entry["links"]) == {"a->b", "b->a"}
    assert "simulating pa-mdi" in err


def test_people_get_a_table(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", scenario]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["policy", "source", "count"] and lines[1].split()[:4] == [
        "pa-mdi", "gate", "10", "10",
    ]  # fmt: skip


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(tmp_path / "none.toml")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and "none.toml" in err


def test_wrong_use_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["simulate"], ["simulate", "s.toml", "--policy", "best"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
