"""Real daemons, a real controller, a real broker: a link that becomes slow is planned around, and used again after."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set

import pytest

from pamdi.cli.status import lines, look
from pamdi.client.broker_config import BrokerConfig
from tests.brokers import free_port, have_mosquitto, running, start_mosquitto
from tests.controller.slow_wire import SlowWire
from tests.daemon.running import MODEL, ROOT, STORE, Daemon, Ear, config_text, listening

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")

WAIT_S = 120.0  # for what takes some seconds on an idle machine
STATED, SLOW = 2e6, 100e3
WIRE_HOST = "127.0.0.2"  # d1 tells its peers that it is there; the wire is
PROBING = """stats_every_s = 0.5
[probe]
every_s = 0.2
share_max = 0.2
"""


def controller_text(folder: Path, url: str) -> str:
    """d0, where the works come from, is far too slow for them; d1 is the best, d2 the second."""
    return f"""state_dir = "{folder}/controller"
settle_s = 0.2
default_rate_bytes_per_s = 0
link_slow_delay_s = 2.0
[broker]
url = "{url}"
[[model]]
id = "{MODEL}"
dir = "{STORE / MODEL}"
[model.seconds]
weak = [1.0, 1.0, 1.0, 1.0]
best = [0.01, 0.01, 0.01, 0.01]
second = [0.02, 0.02, 0.02, 0.02]
[[mesh]]
devices = "all"
rate_bytes_per_s = {STATED}
delay_s = 0.001
[[source]]
id = "gate"
model = "{MODEL}"
device = "d0"
rate_hz = 0.1
"""


class Controller:
    def __init__(self, folder: Path, url: str) -> None:
        self._log = folder / "controller.log"
        config = folder / "controller.toml"
        config.write_text(controller_text(folder, url))
        command = [sys.executable, "-m", "pamdi", "controller", "--config", str(config)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, env=dict(os.environ, PYTHONPATH=str(ROOT / "src")))

    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Fleet:
    def __init__(self, folder: Path, url: str) -> None:
        self.url, self.port = url, free_port()
        self.controller = Controller(folder, url)
        self.daemons: List[Daemon] = []
        for id, kind, port in (("d0", "weak", 0), ("d1", "best", self.port), ("d2", "second", 0)):
            text = config_text(url, folder, id, PROBING, port).replace("test-board", kind)
            if id == "d1":
                text = text.replace("[listen]\n", f'[listen]\nadvertise = "{WIRE_HOST}"\n')
            self.daemons.append(Daemon(folder, text, id))

    def close(self) -> None:
        for daemon in self.daemons:
            daemon.close()
        self.controller.close()

    def logs(self) -> str:
        return "\n".join([self.controller.log(), *(daemon.log() for daemon in self.daemons)])


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running(start_mosquitto(tmp_path)) as broker:
        started = Fleet(tmp_path, broker.url)
        yield started
        started.close()


def told(ear: Ear) -> Dict[str, Any]:
    """What d0 was told last."""
    sets = [payload for topic, payload in ear.heard if topic == "pamdi/v1/device/d0/allocation/set" and payload]
    return dict(json.loads(sets[-1])) if sets else {"routes": {}, "neighbours": []}


def entered(ear: Ear) -> Set[str]:
    """Where the works of d0 go from there."""
    return {route["visits"][0]["device"] for route in told(ear)["routes"].get("gate", [])}


def rate_to_d1(ear: Ear) -> float:
    return float(sum(each["rate_bytes_per_s"] for each in told(ear)["neighbours"] if each["id"] == "d1"))


async def until(true: Callable[[], bool], fleet: Fleet) -> None:
    async def look_again() -> None:
        while not true():
            await asyncio.sleep(0.1)

    try:
        await asyncio.wait_for(look_again(), WAIT_S)
    except asyncio.TimeoutError:
        raise AssertionError(fleet.logs()) from None


async def looked_until_measured(fleet: Fleet) -> Dict[str, Any]:
    """What ``pamdi status`` sees, which looks for a second only, once the link of d0 to d1 has a rate in it:
    probes that were held up may leave it without one for a while."""
    deadline = time.monotonic() + WAIT_S
    while True:
        seen = await look(BrokerConfig(fleet.url))
        link = seen["devices"].get("d0", {"links": {}})["links"].get("d1")
        if link is not None and None not in (link["rate_bytes_per_s"], link["planned_rate_bytes_per_s"]):
            return seen
        assert time.monotonic() < deadline, (seen, fleet.logs())


async def test_a_link_that_becomes_slow_is_planned_around_and_used_again_when_it_is_well(fleet: Fleet) -> None:
    async with SlowWire(WIRE_HOST, fleet.port, to="127.0.0.1") as wire, listening(fleet.url) as ear:
        await until(lambda: entered(ear) == {"d1"}, fleet)
        assert rate_to_d1(ear) == STATED
        wire.rate_bytes_per_s = SLOW
        await until(lambda: entered(ear) == {"d2"} and rate_to_d1(ear) < STATED / 2, fleet)
        await until(lambda: "planned again for link d0 -> d1" in fleet.controller.log(), fleet)
        assert "link d0 -> d1 carries 0." in fleet.controller.log()
        seen = await looked_until_measured(fleet)
        link = seen["devices"]["d0"]["links"]["d1"]
        assert link["rate_bytes_per_s"] < STATED / 2 and link["planned_rate_bytes_per_s"] < STATED / 2
        assert any(line.startswith("  link to d1: measured 0.") for line in lines(seen))
        wire.rate_bytes_per_s = None
        await until(lambda: entered(ear) == {"d1"} and rate_to_d1(ear) > 2 * SLOW, fleet)
