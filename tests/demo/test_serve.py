"""``pamdi demo --serve``: a fleet for others to use, looked after, and gone when it should be."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np
import pytest

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.client import Answer, Client
from pamdi.core.errors import Unreachable

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0


class Served:
    """``pamdi demo --serve --devices 4`` as a process, and what it says on standard error."""

    def __init__(self, folder: Path) -> None:
        self._said = folder / "stderr"
        environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"), TMPDIR=str(folder))
        command = [sys.executable, "-m", "pamdi", "demo", "--serve", "--devices", "4"]
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(command, stderr=said, env=environment)

    def lines(self) -> List[Dict[str, Any]]:
        lines = [line for line in self._said.read_text().splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines if line.endswith("}")]

    def pids(self, name: str) -> List[int]:
        return [line["pid"] for line in self.lines() if line.get("process") == name]

    def children(self) -> List[int]:
        return [line["pid"] for line in self.lines() if "pid" in line]

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not true():
            assert time.monotonic() < deadline and self.process.poll() is None, self._said.read_text()
            time.sleep(0.05)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    fleet = Served(tmp_path)
    try:
        fleet.until(lambda: {"ready": True} in fleet.lines())
        yield fleet
    finally:
        fleet.process.kill()
        fleet.process.wait()


def runs(pid: int) -> bool:
    """A zombie that nobody has waited for yet is dead."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def all_gone(pids: List[int]) -> bool:
    deadline = time.monotonic() + WAIT_S
    while any(runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(runs(pid) for pid in pids)


async def ask(url: str, source: str) -> Answer:
    async with Client(BrokerConfig(url), retry_refused_s=WAIT_S) as client:
        return await client.submit(source, {"image": np.zeros((1, 3, 32, 32), np.float32)}, timeout_s=WAIT_S)


async def refusal_of(url: str, source: str) -> str:
    """The reason that a client with no patience is told; "" when it is not refused, or hears nothing."""
    async with Client(BrokerConfig(url), retry_refused_s=0.0) as client:
        with contextlib.suppress(Unreachable):
            answer = await client.submit(source, {"image": np.zeros((1, 3, 32, 32), np.float32)}, timeout_s=2.0)
            return answer.reason
    return ""


def refusal_without_its_head(served: Served, url: str) -> str:
    """What is said of gate while d0 is dead. On a slow machine it may be back before we ask: then once more."""
    until = time.monotonic() + 3 * WAIT_S
    while time.monotonic() < until:
        lives = len(served.pids("d0"))
        os.kill(served.pids("d0")[-1], signal.SIGKILL)
        reasons = [asyncio.run(refusal_of(url, "gate")) for _ in range(2)]
        served.until(lambda lives=lives: len(served.pids("d0")) > lives)  # type: ignore[misc]
        assert asyncio.run(ask(url, "gate")).status == "answered"
        if any(reasons):
            return max(reasons)
    return ""


def test_a_served_fleet_answers_restarts_what_was_killed_and_leaves_nothing(served: Served, tmp_path: Path) -> None:
    names = [line["process"] for line in served.lines() if "process" in line]
    assert names == ["broker", "controller", "d0", "d1", "d2", "d3"]
    url = next(line["url"] for line in served.lines() if "url" in line)

    assert [asyncio.run(ask(url, source)).status for source in ("gate", "yard", "dock")] == ["answered"] * 3
    assert asyncio.run(refusal_of(url, "nosuch")) == "unknown_source"
    assert refusal_without_its_head(served, url) == "head_away"
    for victim in ("d1", "broker"):
        os.kill(served.pids(victim)[0], signal.SIGKILL)
        served.until(lambda victim=victim: len(served.pids(victim)) == 2)  # type: ignore[misc]
        assert asyncio.run(ask(url, "gate")).status == "answered"

    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(WAIT_S) == 0
    assert all_gone(served.children())
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_killing_the_demo_itself_leaves_no_process_behind(served: Served) -> None:
    assert all(runs(pid) for pid in served.children())
    served.process.kill()
    assert all_gone(served.children())


def test_a_stop_before_the_fleet_is_up_is_obeyed_at_once(tmp_path: Path, tries_left: int = 3) -> None:
    fleet = Served(tmp_path)
    fleet.until(lambda: bool(fleet.pids("d0")))
    fleet.process.send_signal(signal.SIGSTOP)
    early = {"ready": True} not in fleet.lines()  # else this machine slept for too long
    fleet.process.send_signal(signal.SIGINT)
    fleet.process.send_signal(signal.SIGCONT)
    assert fleet.process.wait(WAIT_S) == 0
    assert all_gone(fleet.children())
    if early:
        assert {"ready": True} not in fleet.lines()
    elif tries_left:
        (tmp_path / "again").mkdir()
        test_a_stop_before_the_fleet_is_up_is_obeyed_at_once(tmp_path / "again", tries_left - 1)
    else:
        raise AssertionError("never early enough")


def test_who_presses_ctrl_c_twice_leaves_nothing_either(served: Served, tmp_path: Path) -> None:
    for _ in range(2):
        served.process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    assert served.process.wait(WAIT_S) == 0
    assert all_gone(served.children())
    assert [path.name for path in tmp_path.glob("pamdi-demo-*")] == []


def test_nor_who_does_while_the_fleet_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pamdi.demo.fleet import Fleet, Options

    prepares, go_on = threading.Event(), threading.Event()

    def prepare(fleet: Fleet) -> None:
        prepares.set()
        assert go_on.wait(WAIT_S)
        (fleet.folder / "store").mkdir(parents=True)

    async def enter() -> None:
        monkeypatch.setattr(Fleet, "_prepare", prepare)
        loop = asyncio.get_running_loop()
        entering = asyncio.ensure_future(Fleet(Options()).__aenter__())
        await loop.run_in_executor(None, prepares.wait, WAIT_S)
        entering.cancel()
        loop.call_later(0.05, go_on.set)
        await asyncio.wait([entering])
        assert entering.cancelled()

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    asyncio.run(enter())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words, complaint", [
    (["--works", "0"], "not a number from 1"), (["--devices", "1"], "not a number from 2 to 16"),
    (["--policy", "pa-mdi,best"], "'best' is unknown"), (["--trace", "/no/such/folder/t.json"], "cannot be written"),
])  # fmt: skip
def test_wrong_use_is_said_before_anything_starts(words: List[str], complaint: str) -> None:
    from pamdi.cli.main import build_parser

    with pytest.raises(SystemExit) as stopped, contextlib.redirect_stderr(io.StringIO()) as said:
        build_parser().parse_args(["demo", *words])
    assert stopped.value.code == 2 and complaint in said.getvalue()


def test_a_broker_that_is_not_there_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pamdi.core.errors import Unreachable
    from pamdi.demo import fleet

    monkeypatch.setattr(fleet, "BROKER_S_MAX", 0.2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def enter() -> None:
        async with fleet.Fleet(fleet.Options(broker="mqtt://127.0.0.1:1")):
            raise AssertionError("it came up without a broker")

    with pytest.raises(Unreachable, match="no broker listens at mqtt://127.0.0.1:1: start it, or leave --broker out"):
        asyncio.run(enter())
