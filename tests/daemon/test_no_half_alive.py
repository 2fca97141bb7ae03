"""A daemon that cannot do all that it is there for ends; one that is told to stop, stops, whoever has gone before."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List

import msgspec
import pytest

from pamdi.client.broker_config import BrokerConfig
from pamdi.core import events as ev
from pamdi.core.allocation import DeviceAllocation, Neighbour, Resident
from pamdi.daemon.accepting import Acceptor
from pamdi.daemon.config import BackendConfig, DaemonConfig, Listen
from pamdi.daemon.links import Links
from pamdi.daemon.main import claim_of
from pamdi.daemon.service import Service
from pamdi.engines.manifest import read_manifest
from tests.brokers import free_port
from tests.daemon.running import MODEL, ROOT, STORE, WAIT_S, config_text


async def fails(*arguments: Any) -> None:
    raise RuntimeError("a defect of ours")


def fails_at_once(*arguments: Any) -> None:
    raise RuntimeError("a defect of ours")


def service(folder: Path, said: List[str]) -> Service:
    """Without a broker."""
    config = DaemonConfig(
        "d0", "test-board", str(STORE), memory_bytes=10**8, runtime_dir=str(folder / "run"),
        state_dir=str(folder / "state"), broker=BrokerConfig(f"mqtt://127.0.0.1:{free_port()}"),
        listen=Listen("127.0.0.1", 0), backend=BackendConfig("stub"), drain_s=0.0,
    )  # fmt: skip
    return Service(config, said.append, claim_of(config))


async def test_a_loop_that_accepts_no_longer_ends_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Acceptor, "_accept", fails)
    with pytest.raises(RuntimeError, match="a defect of ours"):
        await asyncio.wait_for(service(tmp_path, []).run(), WAIT_S)


@pytest.mark.parametrize(
    "neighbour, what", [(Neighbour("b", "127.0.0.1", 9), "dials"), (Neighbour("b", "", 0, via=("c",)), "tunnels")]
)
async def test_so_does_one_that_dials_or_keeps_tunnels(
    monkeypatch: pytest.MonkeyPatch, neighbour: Neighbour, what: str
) -> None:
    links = Links("a", 1, lambda event: None, time.monotonic)
    monkeypatch.setattr(links, "_connection", fails)
    monkeypatch.setattr(links.tunnels, "tick", fails_at_once)
    links.set_neighbours((neighbour,))
    with pytest.raises(RuntimeError, match="a defect of ours"):
        await asyncio.wait_for(links.run(), WAIT_S)
    await links.close(0.0)


async def test_what_could_not_be_served_counts_no_longer_as_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, failures = asyncio.get_running_loop(), []  # type: Any, List[int]

    async def fails_to_connect(*arguments: Any) -> None:
        arguments[0]()
        failures.append(1)
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    links = Links("a", 1, lambda event: None, time.monotonic)
    monkeypatch.setattr(loop, "connect_accepted_socket", fails_to_connect)
    await links.listen("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", links.port)) as caller:
        caller.setblocking(False)
        assert await asyncio.wait_for(loop.sock_recv(caller, 100), WAIT_S) == b""
    await asyncio.sleep(0)
    assert (failures, links._accepted) == ([1], set())
    await links.close(0.0)


async def test_asked_to_stop_before_it_has_begun_a_daemon_ends(tmp_path: Path) -> None:
    said: List[str] = []
    daemon = service(tmp_path, said)
    daemon.stop()
    daemon.stop()
    await asyncio.wait_for(daemon.run(), WAIT_S)
    assert "drained" in said


async def test_what_threads_say_after_the_end_is_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next segment of a work would be given to an executor that is closed."""
    daemon, heard = service(tmp_path, []), []  # type: Service, List[Any]
    daemon.stop()
    await asyncio.wait_for(daemon.run(), WAIT_S)
    monkeypatch.setattr(daemon._device, "handle", lambda event, now: heard.append(event))
    daemon.happened(ev.Woken())
    assert heard == []


def started(folder: Path, code: str, stderr: int) -> "subprocess.Popen[bytes]":
    """A daemon of its own process, without a broker, after ``code``."""
    config = folder / "d0.toml"
    config.write_text(config_text(f"mqtt://127.0.0.1:{free_port()}", folder))
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"))
    environment.pop("PYTHONUNBUFFERED", None)  # what cannot be written would be forgotten at once, not at the end
    main = f"{code}\nimport sys, pamdi.cli.main\nsys.exit(pamdi.cli.main.main(['daemon', '--config', {str(config)!r}]))"
    return subprocess.Popen([sys.executable, "-c", main], stdout=subprocess.PIPE, stderr=stderr, env=environment)


def ended(process: "subprocess.Popen[bytes]") -> int:
    try:
        return process.wait(WAIT_S)
    finally:
        process.kill()
        process.communicate()


def test_a_daemon_stops_although_whoever_reads_its_log_has_gone(tmp_path: Path) -> None:
    """As after Ctrl-C in ``pamdi daemon ... 2>&1 | tee log``, which ends the tee first."""
    process = started(tmp_path, "", subprocess.PIPE)
    assert process.stderr is not None
    assert b"out of reach" in process.stderr.readline()
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    assert ended(process) == 0


LOADING = """
import time
from pamdi.daemon.engine_room import EngineRoom
def load(self, instruction):
    print("loads", flush=True)
    time.sleep(3600)
EngineRoom._load = load
"""


def test_a_daemon_stops_although_an_engine_is_still_loading(tmp_path: Path) -> None:
    first = read_manifest(STORE / MODEL).segments[0]
    document = DeviceAllocation(1, segments=(Resident(MODEL, first.first, first.stop, first.sha256, 0.01, 1000),))
    (tmp_path / "run-d0").mkdir()
    (tmp_path / "run-d0" / "allocation.json").write_bytes(msgspec.json.encode(document))
    process = started(tmp_path, LOADING, subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"loads\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process) == 0
