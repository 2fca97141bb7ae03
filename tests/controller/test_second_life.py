"""A real controller and broker, a device that is played: what its lives say, and what they must not say again."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List

import msgspec
import pytest

from pamdi.core.allocation import AllocationState, DeviceInfo, SlotState
from tests.brokers import RunningBroker, have_mosquitto, running, start_mosquitto
from tests.controller.test_config import GOOD, STORE
from tests.daemon.running import ROOT, Ear, listening

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")
SET, STATE = "pamdi/v1/device/d0/allocation/set", "pamdi/v1/controller/state"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    with running(start_mosquitto(tmp_path)) as started:
        yield started


class Controller:
    def __init__(self, folder: Path, url: str) -> None:
        shutil.copytree(STORE, folder / "resnet56-digits")
        self.config = folder / "controller.toml"
        self.state = folder / "controller"
        self.config.write_text(
            f'state_dir = "{self.state}"\nsettle_s = 0.2\ngone_after_s = 1000.0\n{GOOD}[broker]\nurl = "{url}"\n'
        )
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "pamdi", "controller", "--config", str(self.config)]
        environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"))
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def controller(broker: RunningBroker, tmp_path: Path) -> Iterator[Controller]:
    started = Controller(tmp_path, broker.url)
    yield started
    started.kill()


def device(ear: Ear, epoch: int, slots: Any = ()) -> None:
    """What device d0 has retained at the broker."""
    info = DeviceInfo(id="d0", backend="stub", instance=1, type="board", memory_bytes=10**9, host="127.0.0.1", port=1)
    state = AllocationState(epoch, tuple(slots))
    for leaf, payload in (
        ("state", b"online"), ("info", msgspec.json.encode(info)), ("allocation/state", msgspec.json.encode(state)),
    ):  # fmt: skip
        ear.mqtt.publish(ear.topics.device("d0", leaf), payload, 1, True)


def epochs(ear: Ear) -> List[int]:
    return [json.loads(payload)["epoch"] for topic, payload in ear.heard if topic == SET and payload]


async def until_said(ear: Ear, count: int) -> None:
    while len(epochs(ear)) < count:
        await asyncio.sleep(0.05)


async def test_a_life_that_lost_its_file_goes_beyond_the_epoch_that_its_devices_know(
    broker: RunningBroker, controller: Controller
) -> None:
    async with listening(broker.url) as ear:
        device(ear, 41)
        first = json.loads(await ear.until(SET, b'"epoch":42'))
        held = [SlotState(s["model"], s["first"], s["stop"], "ready") for s in first["segments"]]
        assert len(held) == 4 and json.loads((controller.state / "controller.json").read_text())["epoch"] == 42
        device(ear, 42, held)
        controller.kill()
        assert await ear.mqtt.drain(60.0)  # else the next life may hear what was true before
        shutil.rmtree(controller.state)
        ear.heard.clear()
        controller.start()
        await asyncio.wait_for(until_said(ear, 1), 60.0)
        (next_document,) = [json.loads(payload) for topic, payload in ear.heard if topic == SET]
        assert next_document["epoch"] == 43  # it moves nothing
        assert next_document["segments"] == first["segments"]


async def test_its_own_offline_is_read_back_and_answered_with_online(
    broker: RunningBroker, controller: Controller
) -> None:
    async with listening(broker.url) as ear:
        await ear.until(STATE, b"online")
        ear.heard.clear()
        ear.mqtt.publish(STATE, b"offline", 1, True)
        await ear.until(STATE, b"online")


async def test_a_broker_that_forgot_everything_is_told_everything(
    broker: RunningBroker, controller: Controller
) -> None:
    """Without persistence: allocations, sources and the controller's state are retained again."""
    async with listening(broker.url) as ear:
        device(ear, 0)
        first = await ear.until(SET, b'"epoch"')
        ear.heard.clear()
        broker.restart()
        assert await ear.until(SET, b'"epoch"') == first
        await ear.until(STATE, b"online")
        await ear.until("pamdi/v1/source/gate/config", b'"gamma"')
