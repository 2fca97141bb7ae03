"""A real controller, a real broker, and a fleet of pretended devices that is too large to be searched within a tick."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, AsyncIterator, Callable, Dict, List, Optional

import msgspec
import pytest

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.mqtt import Connection
from pamdi.core.allocation import SMALL_FLEET_DEVICES_MAX, AllocationState, DeviceAllocation, DeviceInfo, SlotState
from pamdi.core.topics import Topics
from tests.brokers import RunningBroker, have_mosquitto, running, start_mosquitto
from tests.daemon.running import MODEL, ROOT, STORE, WAIT_S, pamdi

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")

DEVICES, SOURCES = 36, 15  # above 400 together
SEARCH = b"pamdi.controller.beside"


def config(folder: Path, url: str) -> str:
    """Three devices are the heads of all sources, which ask for more than the three can do."""
    lines = [
        f'state_dir = "{folder}/controller"\nsettle_s = 0.3\ndefault_rate_bytes_per_s = 0\n[broker]\nurl = "{url}"',
        f'[[model]]\nid = "{MODEL}"\ndir = "{STORE / MODEL}"\n[model.seconds]\nboard = [0.01, 0.01, 0.01, 0.01]',
    ]
    for n in range(SOURCES):
        lines.append(f'[[source]]\nid = "s{n}"\nmodel = "{MODEL}"\ndevice = "d{n % 3}"\nrate_hz = 18.0')
    for n in range(DEVICES):
        for step in range(1, 6):
            ends = f'from = "d{n}"\nto = "d{(n + step) % DEVICES}"'
            lines.append(f"[[link]]\n{ends}\nrate_bytes_per_s = 1e7\ndelay_s = 0.001")
    return "\n".join(lines) + "\n"


class Crowd:
    """All devices over one connection: each has loaded at once what it is told to hold. ``told`` in order of arrival;
    ``reports`` on commands, each with how many documents had come before it."""

    def __init__(self, url: str) -> None:
        self.topics = Topics()
        self.told: List[DeviceAllocation] = []
        self.by_device: Dict[str, DeviceAllocation] = {}
        self.reports: List[Dict[str, Any]] = []
        self.states: List[bytes] = []
        self.mqtt = Connection(BrokerConfig(url), "crowd", self._message)
        for topic in (self.topics.device("+", "allocation/set"), *map(self.topics.controller, ("report", "state"))):
            self.mqtt.subscribe(topic)

    def _message(self, topic: str, payload: bytes, retained: bool) -> None:
        parsed = self.topics.parse(topic)
        if parsed is None or not payload:
            return
        if parsed.kind == "device":
            document = msgspec.json.decode(payload, type=DeviceAllocation)
            self.told.append(document)
            self.by_device[parsed.id] = document
            slots = tuple(SlotState(r.model, r.first, r.stop, "ready", "") for r in document.segments)
            self._say(parsed.id, "allocation/state", AllocationState(document.epoch, slots))
        elif parsed.leaf == "report":
            self.reports.append({**json.loads(payload), "epoch_heard": self.epoch})
        else:
            self.states.append(payload)

    def _say(self, id: str, leaf: str, what: msgspec.Struct) -> None:
        self.mqtt.publish(self.topics.device(id, leaf), msgspec.json.encode(what), 1, True)

    def join(self) -> None:
        for id in (f"d{n}" for n in range(DEVICES)):
            self._say(id, "info", DeviceInfo(id, "board", 100_000_000, 1, "127.0.0.1", 1, "stub"))
            self._say(id, "allocation/state", AllocationState(0, ()))
            self.mqtt.publish(self.topics.device(id, "state"), b"online", 1, True)

    def leave(self, id: str) -> None:
        self.mqtt.publish(self.topics.device(id, "state"), b"stopped", 1, True)

    def drain(self, id: str, command: str) -> None:
        order = json.dumps({"id": command, "on": True}).encode()
        self.mqtt.publish(self.topics.device(id, "drain"), order, 1)

    def reallocate(self, command: str) -> None:
        self.mqtt.publish(self.topics.controller("reallocate"), json.dumps({"id": command}).encode(), 1)

    def done(self, command: str) -> bool:
        return any(report["id"] == command and report["status"] == "done" for report in self.reports)

    def newest(self) -> Dict[str, DeviceAllocation]:
        return dict(self.by_device)

    @property
    def epoch(self) -> int:
        return max((document.epoch for document in self.told), default=0)


# Run before the controller: its searches wait until the file is there, so that a test meets one that has not ended.
WAITING = """
from pamdi.controller import beside
beside.COMMAND = ("sh", "-c", "until [ -e '%s' ]; do sleep 0.05; done; exec \\"$@\\"", "sh", *beside.COMMAND)
"""


class Play:
    def __init__(self, folder: Path, broker: RunningBroker, crowd: Crowd, search_waits: bool) -> None:
        self._log, self._go = folder / "controller.log", folder / "go"
        path = folder / "controller.toml"
        path.write_text(config(folder, broker.url))
        command = pamdi("controller", "--config", str(path), before=WAITING % self._go if search_waits else "")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, env=dict(os.environ, PYTHONPATH=str(ROOT / "src")))
        self.crowd = crowd
        self.restart_broker = broker.restart

    def log(self) -> str:
        return self._log.read_text()

    def let_search(self) -> None:
        self._go.touch()

    def search(self) -> Optional[int]:
        """The process that searches, if there is one now."""
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{self.process.pid}/task").iterdir():
                for pid in (task / "children").read_text().split():
                    if SEARCH in Path(f"/proc/{pid}/cmdline").read_bytes():
                        return int(pid)
        return None

    async def until(self, true: Callable[[], object]) -> None:
        end = time.monotonic() + WAIT_S
        while not true():
            assert time.monotonic() < end and self.process.poll() is None, self.log()
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def played(folder: Path, search_waits: bool = True) -> AsyncIterator[Play]:
    """The devices are there before the controller."""
    with running(start_mosquitto(folder)) as broker, contextlib.ExitStack() as stack:
        crowd = Crowd(broker.url)
        task = asyncio.ensure_future(crowd.mqtt.run())
        try:
            await asyncio.wait_for(crowd.mqtt.connected.wait(), WAIT_S)
            crowd.join()
            assert await crowd.mqtt.drain(WAIT_S)
            play = Play(folder, broker, crowd, search_waits)
            stack.callback(play.process.wait)
            stack.callback(play.process.kill)
            yield play
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def shared_out(document: DeviceAllocation) -> bool:
    """No first plan shares a source's works between several ways."""
    return any(len(ways) > 1 for ways in document.routes.values())


async def test_a_first_plan_comes_then_a_better_one_and_commands_are_answered_meanwhile(tmp_path: Path) -> None:
    async with played(tmp_path) as play:
        crowd = play.crowd
        await play.until(play.search)
        crowd.drain("nobody", "c1")
        await play.until(lambda: crowd.reports)
        assert (crowd.reports[0]["id"], crowd.reports[0]["status"]) == ("c1", "failed")
        await play.until(lambda: len(crowd.newest()) == DEVICES)
        first = crowd.epoch
        assert not any(map(shared_out, crowd.told))
        play.let_search()
        await play.until(lambda: shared_out(crowd.told[-1]))
        assert crowd.reports[0]["epoch_heard"] < crowd.epoch  # answered before what the search found was told
        await play.until(lambda: play.search() is None)
        crowd.leave("d9")
        await play.until(lambda: crowd.told[-1].epoch > first + 1 and not visits(crowd.told[-1], "d9"))
        assert "came to nothing" not in play.log()


def visits(document: DeviceAllocation, device: str) -> bool:
    return any(visit.device == device for ways in document.routes.values() for way in ways for visit in way.visits)


async def test_a_search_that_is_killed_is_one_line_and_the_next_change_begins_another(tmp_path: Path) -> None:
    async with played(tmp_path) as play:
        await play.until(play.search)
        first = play.search()
        assert first is not None
        os.kill(first, 9)
        await play.until(lambda: "came to nothing" in play.log())
        (line,) = [line for line in play.log().splitlines() if "came to nothing" in line]
        assert line.endswith("the search for a better plan came to nothing, the plan stays as it is: ended by SIGKILL")
        play.let_search()
        play.crowd.leave("d9")
        await play.until(lambda: play.crowd.told and shared_out(play.crowd.told[-1]))


async def test_a_controller_that_is_stopped_during_a_search_ends_at_once_and_takes_it_along(tmp_path: Path) -> None:
    async with played(tmp_path) as play:
        await play.until(play.search)
        search = play.search()
        assert search is not None
        os.kill(search, 19)  # SIGSTOP: it hears nothing
        play.process.terminate()
        assert await asyncio.get_running_loop().run_in_executor(None, play.process.wait, WAIT_S) == 0
        with pytest.raises(ProcessLookupError):
            os.kill(search, 0)
        end = time.monotonic() + WAIT_S
        while play.crowd.states[-1:] != [b"stopped"] and time.monotonic() < end:
            await asyncio.sleep(0.02)
        assert play.crowd.states[-1:] == [b"stopped"]
        assert "Traceback" not in play.log() and "came to nothing" not in play.log()


async def test_a_fleet_whose_devices_are_told_only_what_concerns_them_settles_and_is_told_all_of_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents are of several epochs then; a broker that has forgotten them is given each device's own."""
    monkeypatch.setattr(sys.modules[__name__], "DEVICES", SMALL_FLEET_DEVICES_MAX + 10)
    async with played(tmp_path, search_waits=False) as play:
        crowd = play.crowd
        await play.until(lambda: len(crowd.newest()) == DEVICES and play.search() is None and crowd.epoch > 1)
        crowd.drain("d50", "c1")
        await play.until(lambda: crowd.done("c1"))
        crowd.reallocate("c2")  # which is done when no search is left that could find something better
        await play.until(lambda: crowd.done("c2"))
        newest = crowd.newest()
        assert len({document.epoch for document in newest.values()}) > 1
        assert newest["d50"].segments == () and all(d.segments for id, d in newest.items() if id != "d50")
        for id, document in newest.items():
            heads = {source.id for source in document.sources if source.device == id}
            assert len(document.sources) == SOURCES and heads <= set(document.routes)
            for source, ways in document.routes.items():
                assert source in heads or any(visit.device == id for way in ways for visit in way.visits)
        crowd.told.clear()
        crowd.by_device.clear()
        play.restart_broker()
        await play.until(lambda: crowd.newest() == newest)
