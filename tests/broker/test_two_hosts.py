"""A daemon on one host, the broker on another: the samples as they stand, between two network namespaces."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.brokers import have_mosquitto, mosquitto_path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BROKER, DEVICE = "10.203.0.1", "10.203.0.2"
READY_S_MAX = 90.0

pytestmark = [
    pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed here"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="no ip program (iproute2) here"),
]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture()
def hosts() -> Iterator["tuple[List[str], List[str]]"]:
    """Two hosts on one cable. What is given is the beginning of a command that runs there."""
    names = [f"pamdi-{role}-{os.getpid()}" for role in ("broker", "device")]
    cable = [f"pm{role}{os.getpid()}"[:15] for role in ("b", "d")]
    with contextlib.ExitStack() as stack:
        for name in names:
            try:
                _ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
            stack.callback(_ip, "netns", "del", name)
        _ip("link", "add", cable[0], "netns", names[0], "type", "veth", "peer", "name", cable[1], "netns", names[1])
        for name, end, address in zip(names, cable, (BROKER, DEVICE)):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            _ip("-n", name, "link", "set", end, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield (["ip", "netns", "exec", names[0]], ["ip", "netns", "exec", names[1]])


@pytest.fixture()
def broker_folder(tmp_path: Path) -> Path:
    """/etc/mosquitto/pamdi as the comment in mosquitto.conf makes it, on the broker's host."""
    folder = tmp_path / "broker"
    subprocess.run([str(EXAMPLES / "make-certs.sh"), str(folder), "broker.local", BROKER], check=True)
    shutil.copy(EXAMPLES / "mosquitto.acl", folder / "acl")
    (folder / "passwords").write_text("d0:d0-secret\ncontroller:controller-secret\n")
    subprocess.run(["mosquitto_passwd", "-U", str(folder / "passwords")], check=True)
    sample = (EXAMPLES / "mosquitto.conf").read_text(encoding="utf-8").replace("/etc/mosquitto/pamdi", str(folder))
    (folder / "mosquitto.conf").write_text(f"user root\npersistence_location {folder}/\n{sample}")
    return folder


@pytest.fixture()
def daemon_toml(tmp_path: Path, broker_folder: Path) -> Path:
    """examples/daemon.toml with what the administrator of a board fills in."""
    etc = tmp_path / "device"
    (etc / "store").mkdir(parents=True)
    shutil.copy(broker_folder / "ca.crt", etc)
    (etc / "broker.password").write_text("d0-secret\n")
    text = (EXAMPLES / "daemon.toml").read_text(encoding="utf-8")
    text = text.replace("/etc/pamdi", str(etc)).replace("/var/lib/pamdi/store", str(etc / "store"))
    text = text.replace('"mqtt://127.0.0.1:1883"', f'"mqtts://{BROKER}"').replace(
        'name = "onnxruntime"', 'name = "stub"'
    )
    text = re.sub(r"^# (user|password_file|ca_file) =", r"\1 =", text, flags=re.MULTILINE)
    text = re.sub(r'^# (runtime_dir|state_dir) = "\S+"', rf'\1 = "{etc}"', text, flags=re.MULTILINE)
    (etc / "daemon.toml").write_text(text)
    return etc / "daemon.toml"


@contextlib.contextmanager
def _running(command: List[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=READY_S_MAX)


def _wait_for(word: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while word not in log.read_text(errors="replace"):
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.05)


def _doctor(where: List[str], config: Path) -> "tuple[int, Dict[str, Any]]":
    command = [*where, sys.executable, "-m", "pamdi", "doctor", "--json", "--config", str(config)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    return done.returncode, {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}


def test_a_daemon_reaches_its_broker_on_another_host_with_user_password_and_tls(
    hosts: "tuple[List[str], List[str]]", broker_folder: Path, daemon_toml: Path
) -> None:
    on_broker, on_device = hosts
    log, broker_log = daemon_toml.parent / "log", broker_folder / "log"
    mosquitto = [*on_broker, str(mosquitto_path()), "-c", str(broker_folder / "mosquitto.conf")]
    daemon = [*on_device, sys.executable, "-m", "pamdi", "daemon", "--config", str(daemon_toml)]
    with _running(mosquitto, broker_log):
        _wait_for("running", broker_log)
        with _running(daemon, log):
            _wait_for("device d0 is ready", log)
            for _ in range(10):  # a machine that sleeps may make the daemon late for one
                status, found = _doctor(on_device, daemon_toml)
                if found["daemon"]["value"] == "d0 is running":
                    break
            assert (status, found["daemon"]["value"]) == (0, "d0 is running")
            assert found["broker"]["value"].startswith(f"{BROKER}:8883 answers in ")

        (daemon_toml.parent / "broker.password").write_text("guess\n")
        status, found = _doctor(on_device, daemon_toml)
        assert (status, found["broker"]["state"]) == (1, "wrong")
        assert found["broker"]["cure"].startswith("user and password")
