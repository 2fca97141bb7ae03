"""`pamdi cancel`, `drain`, `reallocate` against real processes: whoever asks for something learns what came of it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest

from pamdi.cli.main import main
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.client import Client
from tests.brokers import RunningBroker, have_mosquitto, running, start_mosquitto
from tests.daemon.running import ROOT, WAIT_S, Daemon, config_text, listening
from tests.daemon.test_service import images, ready

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed here")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    with running(start_mosquitto(tmp_path)) as started:
        yield started


async def pamdi(capsys: pytest.CaptureFixture[str], *arguments: str) -> Tuple[int, str]:
    """Exit status, and what was said on either output."""
    status = await asyncio.get_running_loop().run_in_executor(None, main, list(arguments))
    printed = capsys.readouterr()
    return status, printed.out + printed.err


async def test_the_head_answers_at_once_for_what_has_ended_and_for_what_it_does_not_know(
    broker: RunningBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = Daemon(tmp_path, config_text(broker.url, tmp_path))
    options = ("--broker", broker.url, "--timeout", "1000")
    try:
        async with listening(broker.url) as ear, Client(BrokerConfig(broker.url)) as client:
            await ready(ear)
            assert (await client.submit("gate", {"image": images()}, id="w1")).status == "answered"
            ended = await asyncio.wait_for(pamdi(capsys, "cancel", "gate", "w1", *options), WAIT_S)
            unknown = await asyncio.wait_for(pamdi(capsys, "cancel", "gate", "w2", *options), WAIT_S)
            after = await client.submit("gate", {"image": images()}, id="w2")
    finally:
        daemon.close()
    assert ended == (1, "gate/w1: not cancelled: it has ended already, answered\n")
    says = "gate/w2: not cancelled (unknown_work): it is not open, and has not ended within the last 300 s\n"
    assert unknown == (1, says)
    assert after.status == "answered"  # and the id is free


@pytest.fixture
def controller(broker: RunningBroker, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    config = tmp_path / "controller.toml"
    config.write_text(f'state_dir = "{tmp_path}/controller"\nsettle_s = 0.1\n[broker]\nurl = "{broker.url}"\n')
    command = [sys.executable, "-m", "pamdi", "controller", "--config", str(config)]
    with (tmp_path / "controller.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env=dict(os.environ, PYTHONPATH=str(ROOT / "src")))
    until = time.monotonic() + WAIT_S
    while "is connected" not in (tmp_path / "controller.log").read_text():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


async def test_the_controller_answers_for_sources_that_are_not_there(
    broker: RunningBroker, controller: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str]
) -> None:
    says = (1, "nowhere/w1: not cancelled (unknown_source): no source nowhere; there are none\n")
    until = time.monotonic() + WAIT_S
    said: Any = None
    while said != says and time.monotonic() < until:  # it is silent until it has heard the fleet
        said = await pamdi(capsys, "cancel", "nowhere", "w1", "--broker", broker.url, "--timeout", "2")
    assert said == says


async def test_without_an_answer_it_says_which_cases_remain(
    broker: RunningBroker, controller: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str]
) -> None:
    controller.send_signal(signal.SIGTERM)
    assert controller.wait(WAIT_S) == 0
    options = ("--broker", broker.url)
    why = "its head is away or there is no such source, and the controller is stopped: start it"
    for seconds in ("0.5", "5", "60"):  # on a machine that sleeps, the controller's state may take longer
        _, said = await pamdi(capsys, "cancel", "gate", "w1", "--timeout", seconds, *options)
        if said.endswith(f"{why}\n"):
            break
    assert said == f"pamdi: gate/w1: no word within {seconds} s: {why}\n"
    _, said = await pamdi(capsys, "reallocate", *options)
    assert said == "pamdi: the controller did not answer within 5 s: it is stopped: start it\n"


@pytest.mark.parametrize("command, topic", [
    (["cancel", "gate", "w1", "--timeout", "60"], "source/gate/cancel"), (["drain", "d0"], "device/d0/drain"),
    (["reallocate"], "controller/reallocate"),
])  # fmt: skip
async def test_a_command_that_the_access_list_forbids_says_so_at_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: List[str],
    topic: str,
) -> None:
    """With the sample access list, as a device's user."""
    monkeypatch.setattr("pamdi.cli.fleet_commands.ANSWER_S", WAIT_S)
    (tmp_path / "password").write_text("secret\n")
    acl = ROOT / "examples" / "mosquitto.acl"
    with running(start_mosquitto(tmp_path, users={"d1": "secret"}, config=f"acl_file {acl}")) as broker:
        options = ["--broker", broker.url, "--user", "d1", "--password-file", str(tmp_path / "password")]
        status, said = await pamdi(capsys, *command, *options)
    assert status == 1 and said.startswith(
        f"pamdi: broker {broker.url} does not let user d1 publish to pamdi/v1/{topic}: add `topic write "
    )
