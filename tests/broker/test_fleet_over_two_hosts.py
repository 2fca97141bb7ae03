"""Five boards, one evening, in small: two hosts (network namespaces), the sample broker with TLS and its access list.

Host one runs the broker, the controller and d0; host two runs d1 and the person who submits. Everything is the real
program with files as README describes them. Needs root and iproute2.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, List

import numpy as np
import pytest

from pamdi.engines.digits import load
from tests.brokers import have_mosquitto, mosquitto_path

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "tests" / "engines" / "store"
MODEL = "resnet56-digits"
ONE, TWO = (f"pamdi-{number}-{os.getpid()}" for number in ("one", "two"))
HOSTS = {ONE: "10.76.0.1", TWO: "10.76.0.2"}


def run(*words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(words, capture_output=True, text=True, check=check)


def can_make_hosts() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"pamdi-try-{os.getpid()}"
    made = run("ip", "netns", "add", name, check=False).returncode == 0
    run("ip", "netns", "del", name, check=False)
    return made


pytestmark = [
    pytest.mark.skipif(not can_make_hosts(), reason="cannot make network namespaces (root and iproute2 are needed)"),
    pytest.mark.skipif(not have_mosquitto() or shutil.which("openssl") is None, reason="needs mosquitto and openssl"),
]


@pytest.fixture
def hosts() -> Iterator[None]:
    try:
        for host in HOSTS:
            run("ip", "netns", "add", host)
        run("ip", "link", "add", "pamdi0", "netns", ONE, "type", "veth", "peer", "name", "pamdi0", "netns", TWO)
        for host, address in HOSTS.items():
            run("ip", "-n", host, "addr", "add", f"{address}/24", "dev", "pamdi0")
            for device in ("pamdi0", "lo"):
                run("ip", "-n", host, "link", "set", device, "up")
        yield
    finally:
        for host in HOSTS:
            run("ip", "netns", "del", host, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """/etc/mosquitto/pamdi and the boards' password files, as the sample's comment makes them."""
    run(str(ROOT / "examples" / "make-certs.sh"), str(tmp_path), "broker.local", "10.76.0.1")
    shutil.copy(ROOT / "examples" / "mosquitto.acl", tmp_path / "acl")
    users = ("controller", "operator", "d0", "d1")
    (tmp_path / "passwords").write_text("".join(f"{user}:{user}-secret\n" for user in users))
    run("mosquitto_passwd", "-U", str(tmp_path / "passwords"))
    for user in users:
        (tmp_path / f"{user}.password").write_text(f"{user}-secret\n")
    sample = (ROOT / "examples" / "mosquitto.conf").read_text().replace("/etc/mosquitto/pamdi", str(tmp_path))
    (tmp_path / "mosquitto.conf").write_text(f"user root\npersistence_location {tmp_path}/\n{sample}")
    return tmp_path


def broker_table(folder: Path, user: str) -> str:
    return f"""
[broker]
url = "mqtts://10.76.0.1:8883"
user = "{user}"
password_file = "{folder}/{user}.password"
ca_file = "{folder}/ca.crt"
"""


def write_configs(folder: Path) -> None:
    for id in ("d0", "d1"):
        (folder / f"{id}.toml").write_text(
            f'id = "{id}"\ntype = "board"\nstore = "{STORE}"\nmemory_bytes = 100000000\n'
            f'runtime_dir = "{folder}/run-{id}"\nstate_dir = "{folder}/state-{id}"\n' + broker_table(folder, id)
        )
    (folder / "controller.toml").write_text(
        f'state_dir = "{folder}/state-controller"\n{broker_table(folder, "controller")}'
        f'[[model]]\nid = "{MODEL}"\ndir = "{STORE}/{MODEL}"\n[model.seconds]\nboard = [0.01, 0.01, 0.01, 0.01]\n'
        f'[[source]]\nid = "gate"\nmodel = "{MODEL}"\ndevice = "d0"\ngamma = 10.0\n'
        f'[[source]]\nid = "yard"\nmodel = "{MODEL}"\ndevice = "d1"\n'
    )


def on(host: str, *words: str) -> List[str]:
    return ["ip", "netns", "exec", host, *words]


def test_a_fleet_over_two_hosts_answers_somebody_on_the_other(hosts: None, folder: Path) -> None:
    write_configs(folder)
    np.save(folder / "image.npy", load("test")[0][:1])
    pamdi = [sys.executable, "-m", "pamdi"]
    commands = {
        "broker": on(ONE, str(mosquitto_path()), "-c", str(folder / "mosquitto.conf")),
        "controller": on(ONE, *pamdi, "controller", "--config", str(folder / "controller.toml")),
        "d0": on(ONE, *pamdi, "daemon", "--config", str(folder / "d0.toml")),
        "d1": on(TWO, *pamdi, "daemon", "--config", str(folder / "d1.toml")),
    }
    operator = ["--broker", "mqtts://10.76.0.1:8883", "--user", "operator", "--ca", str(folder / "ca.crt")]
    operator += ["--password-file", str(folder / "operator.password")]
    processes = []
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        until = time.monotonic() + 90
        while "running" not in (folder / "broker.log").read_text():  # who submits waits for ten seconds
            assert time.monotonic() < until
            time.sleep(0.05)
        for source in ("gate", "yard"):
            submit = on(TWO, *pamdi, "submit", source, str(folder / "image.npy"), "--retry", "90", "--timeout", "90")
            done = run(*submit, *operator, check=False)
            said = "\n".join(f"{name}: {(folder / f'{name}.log').read_text()[-800:]}" for name in commands)
            assert done.returncode == 0 and "answered" in done.stdout, f"{done.stdout}{done.stderr}\n{said}"
        until = time.monotonic() + 90
        shown = ""
        while shown.count("ready: resnet56-digits[0:") < 2 and time.monotonic() < until:
            shown = run(*on(TWO, *pamdi, "status"), *operator, check=False).stdout
        assert "controller online" in shown and "device d1: online, board at 10.76.0.2:" in shown
        assert shown.count("ready: resnet56-digits[0:") == 2  # both hold the first segment
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=90)
