"""Two controllers at one real broker: the newcomer, or one of two newcomers, ends with one line."""

import os
import subprocess
import time
from pathlib import Path
from typing import Iterator

import pytest

from tests.brokers import RunningBroker, have_mosquitto, running, start_mosquitto
from tests.daemon.running import PATIENT, ROOT, WAIT_S, pamdi

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    with running(start_mosquitto(tmp_path)) as started:
        yield started


def controller(tmp_path: Path, name: str, url: str, before: str = "") -> "subprocess.Popen[str]":
    config = tmp_path / f"{name}.toml"
    config.write_text(f'state_dir = "{tmp_path}/{name}"\n[broker]\nurl = "{url}"\n')
    command = pamdi("controller", "--config", str(config), before=before)
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"))
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


def test_a_second_controller_ends_with_one_line_and_the_first_goes_on(broker: RunningBroker, tmp_path: Path) -> None:
    processes = [controller(tmp_path, "first", broker.url)]
    try:
        assert processes[0].stderr is not None
        assert "is connected" in processes[0].stderr.readline()
        processes += [controller(tmp_path, "second", broker.url, PATIENT)]
        assert processes[1].wait(timeout=WAIT_S) == 1 and processes[0].poll() is None
        assert processes[1].stderr is not None and processes[1].stderr.read() == (
            f"pamdi: a controller is already running at broker {broker.url}: stop one of the two, or give this one's "
            "fleet another [broker] prefix\n"
        )
    finally:
        for process in processes:
            end(process)


def test_of_two_controllers_that_start_at_once_one_stays(broker: RunningBroker, tmp_path: Path) -> None:
    processes = [controller(tmp_path, name, broker.url) for name in ("one", "two")]
    until = time.monotonic() + WAIT_S
    try:
        while all(process.poll() is None for process in processes):
            assert time.monotonic() < until
            time.sleep(0.05)
        (ended,) = [process for process in processes if process.poll() is not None]
        assert ended.returncode == 1 and ended.stderr is not None
        assert "is already running" in ended.stderr.read().splitlines()[-1]
    finally:
        for process in processes:
            end(process)
