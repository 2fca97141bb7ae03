"""`pamdi doctor --config controller.toml` checks it as what it is, and asks the broker that it names."""

import asyncio
import functools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from pamdi.cli import doctor
from pamdi.cli.doctor_findings import ODD, WRONG
from pamdi.cli.doctor_fleet import about_fleet
from pamdi.client.broker_config import BrokerConfig
from pamdi.controller.config import ControllerConfig, read_config
from pamdi.core.allocation import DeviceAllocation, DeviceInfo, Neighbour
from pamdi.daemon.config import DaemonConfig
from tests.brokers import free_port, have_mosquitto, running, start_mosquitto
from tests.cli.test_doctor import _config, _doctor, _named
from tests.controller.test_config import GOOD, STORE
from tests.daemon.running import ROOT, WAIT_S, listening


def write(tmp_path: Path, url: str, text: str = GOOD, name: str = "fleet.toml") -> Path:
    if not (tmp_path / "resnet56-digits").exists():
        shutil.copytree(STORE, tmp_path / "resnet56-digits")
    path = tmp_path / name
    path.write_text(f'state_dir = "{tmp_path}/state"\n{text}\n[broker]\nurl = "{url}"\n')
    return path


@pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed here")
@pytest.mark.usefixtures("round_trips_may_take_long")
def test_a_controllers_file_is_told_from_a_daemons_and_its_broker_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(start_mosquitto(tmp_path)) as broker:
        config = write(tmp_path, broker.url)
        status, document = _doctor(capsys, "--config", str(config))
        assert (status, document["ok"]) == (0, True)
        says = f"{config}: controller of 1 models, sources gate"
        assert _named(document, "configuration") == [{"name": "configuration", "value": says}]
        assert _named(document, "broker")[0]["value"].startswith(f"127.0.0.1:{broker.port} answers in ")
        assert _named(document, "controller") == [{"name": "controller", "value": "not running"}]
        assert _named(document, "back end") == _named(document, "store") == _named(document, "daemon") == []
        command = [sys.executable, "-m", "pamdi", "controller", "--config", str(config)]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, stderr=log, env=dict(os.environ, PYTHONPATH=str(ROOT / "src")))
        until, state = time.monotonic() + WAIT_S, "not running"
        try:
            while state != "running" and time.monotonic() < until:
                state = _named(_doctor(capsys, "--config", str(config))[1], "controller")[0]["value"]
        finally:
            process.kill()
            process.wait()
    assert state == "running"


@pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed here")
async def test_what_the_fleet_retains_is_held_against_the_file(tmp_path: Path) -> None:
    """A board in another power mode, one of a type without seconds, and a link that is planned with as measured."""
    text = GOOD + '[[link]]\nfrom = "d0"\nto = "d1"\nrate_bytes_per_s = 1e6\ndelay_s = 0.001\n'
    _, wanted = read_config(write(tmp_path, "mqtt://h", text))
    wanted = wanted._replace(power_modes={("resnet56-digits", "board"): "2 MODE_15W"})
    slow, stated = Neighbour("d1", "h", 1, 5e4, 0.002), Neighbour("d0", "h", 1, 1e6, 0.001)
    with running(start_mosquitto(tmp_path)) as broker:
        async with listening(broker.url) as ear:
            for id, kind, neighbour in (("d0", "board", slow), ("d1", "nano", stated)):
                documents = {
                    "info": DeviceInfo(id=id, backend="stub", instance=1, type=kind, memory_bytes=1, host="h", port=1),
                    "allocation/set": DeviceAllocation(epoch=1, neighbours=(neighbour,)),
                    "stats": {"power_mode": "0 MAXN", "counters": {}},
                }
                ear.mqtt.publish(ear.topics.device(id, "state"), b"online", 1, True)
                for leaf, document in documents.items():
                    ear.mqtt.publish(ear.topics.device(id, leaf), msgspec.json.encode(document), 1, True)
                await ear.until(ear.topics.device(id, "stats"), b"MAXN")
            ask = functools.partial(about_fleet, BrokerConfig(broker.url), wanted)
            for _ in range(10):  # it listens for a second: too short for a machine that sleeps
                found = await asyncio.get_running_loop().run_in_executor(None, ask)
                if len(found) == 3:
                    break
    assert [(finding.name, finding.state, finding.value) for finding in found] == [
        ("device", ODD, "d0 is in power mode '0 MAXN', the table of board was measured in '2 MODE_15W'"),
        ("device", ODD, "d1 is of type nano and gets no part of resnet56-digits, whose seconds are of board"),
        (
            "link", ODD,
            "d0 -> d1 is planned with 0.05 MB/s, 2 ms, as it is measured, the file states 1 MB/s, 1 ms",
        ),
    ]  # fmt: skip


def test_a_controllers_mistake_is_told_and_no_other_broker_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, f"mqtt://127.0.0.1:{free_port()}", GOOD.replace("gamma", "gama"))
    status, document = _doctor(capsys, "--config", str(config))
    assert status == 1
    (found,) = _named(document, "configuration")
    assert (found["state"], found["cure"]) == (WRONG, "did you mean `gamma`?") and "`gama`" in found["value"]
    (broker,) = _named(document, "broker")
    assert (broker["state"], "not looked for" in broker["value"]) == (ODD, True)


def test_a_controllers_file_that_says_little_is_known_by_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, "mqtt://h", "", "controller.toml")
    found, config = doctor.about_configuration(path)
    assert isinstance(config, ControllerConfig) and (found.state, "[[source]]" in found.cure) == (ODD, True)


def test_a_daemons_file_stays_a_daemons_whatever_its_name(tmp_path: Path) -> None:
    path = _config(tmp_path, "mqtt://h").rename(tmp_path / "controller.toml")
    assert isinstance(doctor.about_configuration(path)[1], DaemonConfig)


def test_the_keys_that_tell_them_apart_are_theirs() -> None:
    controllers, daemons = (
        {field.encode_name for field in msgspec.structs.fields(kind)} for kind in (ControllerConfig, DaemonConfig)
    )
    assert controllers - daemons == doctor.CONTROLLERS
    assert daemons - controllers >= doctor.DAEMONS
