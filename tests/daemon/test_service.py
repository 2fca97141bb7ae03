"""A real daemon against a real broker: what it says, what it refuses, and how it goes and comes back."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator, List

import msgspec
import numpy as np
import pytest

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.client import Client
from pamdi.client.payloads import ResultJson, write_submission
from pamdi.core.allocation import AllocationState, DeviceAllocation
from pamdi.core.topics import Topics
from pamdi.daemon.kept_allocation import KeptAllocation
from pamdi.daemon.service import Service
from pamdi.engines.digits import load
from tests.brokers import RunningBroker, free_port, have_mosquitto, running, start_mosquitto
from tests.daemon.running import MODEL, PATIENT, STORE, WAIT_S, Daemon, Ear, config_text, listening

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    with running(start_mosquitto(tmp_path)) as started:
        yield started


@pytest.fixture
def daemon(broker: RunningBroker, tmp_path: Path) -> Iterator[Daemon]:
    started = Daemon(tmp_path, config_text(broker.url, tmp_path))
    yield started
    started.close()


async def ready(ear: Ear) -> None:
    """The daemon is online and holds its four segments."""
    await ear.until("pamdi/v1/device/d0/state", b"online")
    ear.allocate("d0")
    topic = "pamdi/v1/device/d0/allocation/state"
    for _ in range(1200):
        states = [payload for name, payload in ear.heard if name == topic]
        if states and states[-1].count(b'"ready"') == 4:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("never ready")


def images(count: int = 1) -> "np.ndarray":
    return load("test")[0][:count]


async def test_it_answers_and_a_repeated_id_gets_the_same_answer(broker: RunningBroker, daemon: Daemon) -> None:
    async with listening(broker.url) as ear, Client(BrokerConfig(broker.url)) as client:
        await ready(ear)
        first = await client.submit("gate", {"image": images()}, id="w1")
        assert (first.status, [visit.first for visit in first.path]) == ("answered", [0, 1, 2, 3])
        ear.mqtt.publish("pamdi/v1/source/gate/submit", write_submission("w1", {"image": images()}))
        for _ in range(1200):
            answers = [p for t, p in ear.heard if t.endswith("gate/result") and b'"answered"' in p]
            if len(answers) == 2:
                break
            await asyncio.sleep(0.05)
        assert len(answers) == 2 and answers[0] == answers[1]


async def test_bad_submissions_are_refused_with_a_reason_and_nothing_dies(
    broker: RunningBroker, daemon: Daemon
) -> None:
    good = json.loads(write_submission("x", {"image": images()}))
    claim = {"image": {"dtype": "float32", "shape": [2**31, 2**31], "data": ""}}
    cases = {
        "wrong-shape": {**good, "inputs": json.loads(write_submission("x", {"image": images()[:, :, :5]}))["inputs"]},
        "wrong-dtype": {
            **good,
            "inputs": json.loads(write_submission("x", {"image": images().astype("float64")}))["inputs"],
        },
        "wrong-name": {**good, "inputs": json.loads(write_submission("x", {"picture": images()}))["inputs"]},
        "huge-claim": {**good, "inputs": claim},
        "no-base64": {**good, "inputs": {"image": {**good["inputs"]["image"], "data": "?" * 16384}}},
        "bad-gamma": {**good, "gamma": -1},
        "no-inputs": {"inputs": {}},
    }
    async with listening(broker.url) as ear, Client(BrokerConfig(broker.url)) as client:
        await ready(ear)
        for id, body in cases.items():
            ear.mqtt.publish("pamdi/v1/source/gate/submit", json.dumps({**body, "id": id}).encode())
        for junk in (b"", b"\x00\xff", b"[" * 10_000, b'{"id": 7}', b"null"):
            for leaf in ("source/gate/submit", "source/gate/cancel", "device/d0/allocation/set", "device/d0/alive/ask"):
                ear.mqtt.publish(f"pamdi/v1/{leaf}", junk)
        for id in cases:
            said = json.loads(await ear.until("pamdi/v1/source/gate/result", f'"id":"{id}"'.encode()))
            assert said["status"] == "refused" and said["reason"] in ("bad_input", "too_large") and said["detail"], id
        assert (await client.submit("gate", {"image": images()})).status == "answered"
    assert daemon.process.poll() is None and "Traceback" not in daemon.log()


@pytest.mark.parametrize("damage", ["altered", "cut short", "gone"])
async def test_a_damaged_engine_breaks_its_slot_with_the_reason_and_the_rest_works(
    broker: RunningBroker, tmp_path: Path, damage: str
) -> None:
    store = tmp_path / "store"
    shutil.copytree(STORE, store)
    file = store / MODEL / "0002-0003.onnx"
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(data[: len(data) // 2] if damage == "cut short" else b"x" + data[1:])
    daemon = Daemon(tmp_path, config_text(broker.url, tmp_path).replace(str(STORE), str(store)))
    try:
        async with listening(broker.url) as ear:
            await ear.until("pamdi/v1/device/d0/state", b"online")
            ear.allocate("d0")
            state = await ear.until("pamdi/v1/device/d0/allocation/state", b'"broken"')
            slots = {slot.first: slot for slot in msgspec.json.decode(state, type=AllocationState).segments}
            assert slots[2].state == "broken" and "0002-0003.onnx" in slots[2].reason
            assert "\n" not in slots[2].reason and "export" in slots[2].reason
            for _ in range(1200):
                state = [payload for topic, payload in ear.heard if topic.endswith("allocation/state")][-1]
                if state.count(b'"ready"') == 3:
                    break
                await asyncio.sleep(0.05)
            assert state.count(b'"ready"') == 3 and daemon.process.poll() is None
    finally:
        daemon.close()


async def test_a_second_daemon_with_the_same_id_ends_with_one_line(
    broker: RunningBroker, daemon: Daemon, tmp_path: Path
) -> None:
    async with listening(broker.url) as ear:
        await ready(ear)
        (tmp_path / "twin").mkdir()
        twin = Daemon(tmp_path / "twin", config_text(broker.url, tmp_path / "twin"), before=PATIENT)
        assert await asyncio.get_running_loop().run_in_executor(None, twin.process.wait, WAIT_S) == 1
        assert twin.log() == "pamdi: device d0 is already running somewhere: give this one another id in daemon.toml\n"
        assert daemon.process.poll() is None


async def test_sigterm_says_stopped_and_sigkill_says_offline(broker: RunningBroker, daemon: Daemon) -> None:
    async with listening(broker.url) as ear:
        await ready(ear)
        assert await asyncio.get_running_loop().run_in_executor(None, daemon.terminate) == 0
        await ear.until("pamdi/v1/device/d0/state", b"stopped")
        ear.heard.clear()
        daemon.start()
        await ear.until("pamdi/v1/device/d0/state", b"online")
        daemon.kill()
        await ear.until("pamdi/v1/device/d0/state", b"offline")
    assert "Traceback" not in daemon.log()


async def test_its_own_offline_is_read_back_and_answered_with_online(broker: RunningBroker, daemon: Daemon) -> None:
    """A will that the broker publishes late, when its device is back already."""
    topic = "pamdi/v1/device/d0/state"
    async with listening(broker.url) as ear:
        await ready(ear)
        ear.heard.clear()
        ear.mqtt.publish(topic, b"offline", 1, True)
        await ear.until(topic, b"offline")
        await ear.until(topic, b"online")
        ear.heard.clear()
        ear.mqtt.publish(topic, b"", 1, True)  # somebody has cleared it
        await ear.until(topic, b"online")


async def test_results_that_the_access_list_forbids_are_told_and_are_said_again_once_it_allows_them(
    tmp_path: Path,
) -> None:
    """An end that the broker did not accept is not delivered."""
    acl = tmp_path / "acl"
    (tmp_path / "password").write_text("secret\n")
    everything = "user ear\ntopic readwrite #\nuser d0\ntopic readwrite pamdi/v1/device/d0/#\ntopic read #\n"
    acl.write_text(everything)
    users = {"d0": "secret", "ear": "secret"}
    with running(start_mosquitto(tmp_path, users=users, config=f"acl_file {acl}")) as broker:
        config = BrokerConfig(broker.url, user="ear", password_file=str(tmp_path / "password"))
        text = config_text(broker.url, tmp_path).replace(
            "[listen]", f'user = "d0"\npassword_file = "{tmp_path}/password"\n[listen]'
        )
        daemon = Daemon(tmp_path, text)
        try:
            async with listening(config) as ear:
                await ready(ear)
                ear.mqtt.publish("pamdi/v1/source/gate/submit", write_submission("w1", {"image": images()}))
                await daemon.says("does not let user d0 publish to pamdi/v1/source/gate/result: add `topic write")
                acl.write_text(everything + "topic write pamdi/v1/source/+/result\n")
                os.kill(broker.pid, signal.SIGHUP)
                daemon.kill()
                daemon.start()
                await ear.until("pamdi/v1/source/gate/result", b'"answered"')
        finally:
            daemon.close()


async def test_a_killed_daemon_goes_on_with_what_it_had_admitted(broker: RunningBroker, daemon: Daemon) -> None:
    async with listening(broker.url) as ear, Client(BrokerConfig(broker.url)) as client:
        await ready(ear)
        works = [asyncio.ensure_future(client.submit("yard", {"image": images()})) for _ in range(60)]
        await ear.until("pamdi/v1/source/yard/result", b'"admitted"')
        daemon.kill()
        daemon.start()
        answers = await asyncio.gather(*works)
        assert [answer.status for answer in answers] == ["answered"] * 60 and client.duplicated == 0


async def test_a_restarted_daemon_holds_what_it_held_though_broker_and_controller_have_forgotten_it(
    broker: RunningBroker, daemon: Daemon
) -> None:
    topic = "pamdi/v1/device/d0/allocation/state"
    async with listening(broker.url) as ear, Client(BrokerConfig(broker.url)) as client:
        await ready(ear)
        daemon.kill()
        broker.restart()
        ear.heard.clear()
        daemon.start()
        await ear.until("pamdi/v1/device/d0/state", b"online")
        for _ in range(1200):
            if any(name == topic and payload.count(b'"ready"') == 4 for name, payload in ear.heard):
                break
            await asyncio.sleep(0.05)
        assert (await client.submit("gate", {"image": images()}, timeout_s=WAIT_S)).status == "answered"


def test_the_allocation_that_is_kept_is_the_one_that_came_and_one_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    lines: List[str] = []
    kept = KeptAllocation(tmp_path, lines.append)
    assert kept.read() is None
    kept.keep(msgspec.json.encode(DeviceAllocation(7)))
    assert kept.read() == DeviceAllocation(7) and lines == []
    (tmp_path / "allocation.json").write_bytes(b"{")
    assert kept.read() is None
    KeptAllocation(tmp_path / "gone", lines.append).keep(b"{}")
    assert len(lines) == 1 and lines[0].endswith("the allocation will not survive a restart")


async def test_results_above_the_lowest_class_have_a_connection_of_their_own() -> None:
    said: List[str] = []

    def lane(name: str) -> Any:
        return SimpleNamespace(publish=lambda *of: said.append(f"{name} {of[0]}"))

    service: Any = SimpleNamespace(
        _mqtt=lane("normal"), _urgent=lane("urgent"), _topics=Topics("p"), _result_not_accepted=None,
        _is_urgent=lambda urgency: urgency > 1.0,
    )  # fmt: skip
    for source, urgency in (("gate", 10.0), ("yard", 1.0)):
        Service._publish_result(service, source, ResultJson("w1", "answered"), urgency, None)
    assert said == ["urgent p/source/gate/result", "normal p/source/yard/result"]


async def test_without_a_broker_it_waits_says_so_and_then_serves(tmp_path: Path) -> None:
    port = free_port()
    daemon = Daemon(tmp_path, config_text(f"mqtt://127.0.0.1:{port}", tmp_path))
    try:
        await daemon.says("out of reach")
        with running(start_mosquitto(tmp_path, port=port)) as broker:
            async with listening(broker.url) as ear:
                await ready(ear)
    finally:
        daemon.close()


async def test_systemd_hears_ready_and_a_sentence(broker: RunningBroker, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WAIT_S)
        daemon = Daemon(
            tmp_path, config_text(broker.url, tmp_path),
            environment={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "900000"},
        )  # fmt: skip
        heard: List[str] = []
        try:
            while not {"WATCHDOG=1", "READY=1"} <= set(heard):  # it is fed while it waits for the broker, too
                heard.append(
                    (await asyncio.get_running_loop().run_in_executor(None, manager.recv, 4096)).decode()
                )  # fmt: skip
        finally:
            daemon.close()
    assert heard[0].startswith("STATUS=waiting for the broker")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("memory_bytes", "memory_byts"), "unknown key `memory_byts` at top level: did you mean `memory_bytes`?"),
        (('id = "d0"', 'id = "a/b"'), "use letters, digits"),
        (("mqtt://", "http://"), "write mqtt://HOST:PORT"),
        (('type = "test-board"', "type = 3"), "Expected `str`"),
        (("drain_s = 2.0", "drain_s = "), "not TOML"),
        (('optimisation = "off"', 'optimisation = "maybe"'), "optimisation is one of off, all"),
    ],
)
def test_a_config_with_a_mistake_is_one_line_and_exit_1(tmp_path: Path, change: "tuple[str, str]", says: str) -> None:
    text = config_text(f"mqtt://127.0.0.1:{free_port()}", tmp_path)
    assert change[0] in text
    daemon = Daemon(tmp_path, text.replace(*change, 1))
    assert daemon.process.wait(timeout=60) == 1
    assert says in daemon.log() and daemon.log().count("\n") == 1


def test_a_port_in_use_is_one_line(broker: RunningBroker, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, config_text(broker.url, tmp_path, port=broker.port))
    assert daemon.process.wait(timeout=60) == 1
    last = daemon.log().strip().splitlines()[-1]
    assert last.startswith(f"pamdi: cannot listen on 127.0.0.1:{broker.port}") and "choose another" in last


def test_the_daemon_imports_nothing_heavy() -> None:
    heavy = "('onnx', 'torch', 'rich', 'onnxruntime', 'amqtt')"
    code = f"import sys, pamdi.daemon.main; print([name for name in {heavy} if name in sys.modules])"
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parents[2] / "src"))
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


def test_messages_of_results_are_pinned() -> None:
    assert msgspec.json.decode(write_submission("w1", {"x": np.zeros((1, 2), np.float32)})) == {
        "id": "w1",
        "inputs": {"x": {"dtype": "float32", "shape": [1, 2], "data": "AAAAAAAAAAA="}},
    }
