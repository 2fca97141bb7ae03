"""The demo itself, short: real processes, a kill, and figures that say nothing was lost."""

import json
import subprocess
import sys
from typing import Any, Dict, List

import pytest

from tests.brokers import have_mosquitto


def run_demo(*words: str) -> "tuple[Dict[str, Any], List[str]]":
    command = [sys.executable, "-m", "pamdi", "demo", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout), done.stderr.splitlines()


def test_the_demo_loses_nothing_when_a_device_is_killed() -> None:
    document, said = run_demo("--works", "40", "--no-alone")
    assert set(document["policies"]) == {"pa-mdi", "ms-mdi"}
    for policy in document["policies"].values():
        assert set(policy["sources"]) == {"gate", "yard", "dock"}
        for figures in policy["sources"].values():
            assert figures["answered"] == figures["count"] > 0
            assert figures["lost"] == figures["duplicated"] == figures["failed"] == figures["refused"] == 0
    assert [(kill["device"], kill["policy"]) for kill in document["kills"]] == [("d3", "pa-mdi"), ("d3", "ms-mdi")]
    assert document["accuracy"] == document["accuracy_uncut"]
    assert document["answers_bit_equal"] == document["answers"]
    lines = [json.loads(line) for line in said if line.startswith("{")]
    names = [line["process"] for line in lines if "process" in line]
    assert names[:7] == ["broker", "controller", "d0", "d1", "d2", "d3", "d4"] and {"ready": True} in lines


def test_the_demo_runs_on_the_embedded_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAMDI_DEMO_EMBEDDED_BROKER", "1")
    document, said = run_demo("--works", "15", "--no-alone", "--no-kill", "--policy", "pa-mdi", "--devices", "3")
    assert all(f["answered"] == f["count"] for f in document["policies"]["pa-mdi"]["sources"].values())
    assert any("embedded broker" in line for line in said)


@pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")
@pytest.mark.parametrize(("shape", "first", "seeds"), [("mesh", 1, 3), ("chain", 5, 1), ("broker", 2, 1)])
def test_kill_9_of_any_process_loses_nothing_and_answers_nothing_twice(shape: str, first: int, seeds: int) -> None:
    words = ["--seeds", str(seeds), "--first", str(first), "--shape", shape]
    command = [sys.executable, "-m", "benchmarks.chaos", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0 and f"{seeds} of {seeds} seeds held" in done.stdout, done.stdout[-3000:]
