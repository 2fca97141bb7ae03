"""A whole fleet on this machine: a real broker, a controller and device daemons, each a process that can be killed.

Two things are emulated, and named so wherever figures are shown: every real inference is padded to the time of a
small board, and every link is paced to the rate of a small wireless mesh. Everything else is what runs on boards.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from pamdi.client.broker_config import BrokerConfig
from pamdi.core.errors import Unreachable
from pamdi.demo.watcher import Watcher
from pamdi.engines.export import OURS, export

MODEL = "resnet56-digits"
PR_SET_PDEATHSIG = 1
START_S_MAX = 60.0


class Options(NamedTuple):
    """``unit_s``: emulated seconds per unit; links in bytes per second and seconds one way."""

    devices: int = 5
    units: int = 8
    unit_s: float = 0.025
    link_rate_bytes_per_s: float = 2_500_000.0
    link_delay_s: float = 0.002
    policy: str = "pa-mdi"
    broker: Optional[str] = None
    persistence: bool = False
    embedded: bool = False
    gone_after_s: float = 1.0
    memory_bytes: int = 8_000_000
    durability: str = "memory"


class SourceRow(NamedTuple):
    """A source of the demo: ``share`` of the fleet's capacity that its works ask for."""

    id: str
    device: str
    gamma: float
    share: float


def sources_for(devices: int) -> Tuple[SourceRow, SourceRow, SourceRow]:
    """gate (urgent), yard (normal) and dock (normal, joins later); together 0.9 of what the devices can compute."""
    return (
        SourceRow("gate", "d0", 10.0, 0.4),
        SourceRow("yard", f"d{min(1, devices - 1)}", 1.0, 0.4),
        SourceRow("dock", f"d{min(2, devices - 1)}", 1.0, 0.1),
    )


def mosquitto_path() -> Optional[str]:
    """Debian keeps mosquitto off the PATH of ordinary users."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Fleet:
    """``async with Fleet(options) as fleet``: up on entry (every source admits), gone on exit."""

    def __init__(self, options: Options, announce: bool = False) -> None:
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="pamdi-demo-"))
        self.sources = sources_for(options.devices)
        self.active: List[str] = ["gate", "yard"]
        self.policy = options.policy
        self.url = options.broker or f"mqtt://127.0.0.1:{_free_port()}"
        self.broker_name = "given"
        self.devices = [f"d{i}" for i in range(options.devices)]
        self._announce = announce
        self._processes: Dict[str, "subprocess.Popen[bytes]"] = {}
        self.watcher = Watcher(BrokerConfig(self.url))

    async def __aenter__(self) -> "Fleet":
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._prepare)
            if self.options.broker is None:
                self.start("broker")
                await self._broker_listens()
            self.start("controller")
            for device in self.devices:
                self.start(device)
            await self.watcher.start()
            await self.ready()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.watcher.stop()
        for name in ["controller", *self.devices, "broker"]:
            process = self._processes.get(name)
            if process is not None and process.poll() is None:
                process.kill() if error and error[0] is not None else process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    await asyncio.get_running_loop().run_in_executor(None, process.wait, 0.01)
        for process in self._processes.values():
            try:
                await asyncio.get_running_loop().run_in_executor(None, process.wait, 5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if not error or error[0] is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- processes -------------------------------------------------------------------------------------------------

    def start(self, name: str) -> int:
        """Start (again) the broker, the controller or a device. Returns its pid."""
        command = self._command(name)
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent
            )  # fmt: skip
        self._processes[name] = process
        if self._announce:
            line: Dict[str, Any] = {"process": name, "pid": process.pid}
            if name == "broker":
                line["url"] = self.url
            print(json.dumps(line), file=sys.stderr, flush=True)
        return process.pid

    def kill(self, name: str) -> None:
        """SIGKILL: no goodbye."""
        process = self._processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait()

    def dead(self) -> List[str]:
        """Processes that ended without being asked."""
        return [name for name, process in self._processes.items() if process.poll() is not None]

    async def ready(self) -> None:
        """Wait until every device holds its part of the newest epoch under the wanted policy. Raises Unreachable."""
        until = time.monotonic() + START_S_MAX
        while not self.watcher.settled(self.devices, self.policy, self.active):
            dead = self.dead()
            if dead or time.monotonic() > until:
                what = f"{dead[0]} ended at once" if dead else f"the fleet is not ready after {START_S_MAX:g} s"
                name = dead[0] if dead else "controller"
                lines = (self.folder / f"{name}.log").read_text().strip().splitlines()
                raise Unreachable(f"{what}: {lines[-1] if lines else 'it said nothing'} (logs in {self.folder})")
            await asyncio.sleep(0.05)

    async def configure(self, policy: Optional[str] = None, active: Optional[List[str]] = None) -> None:
        """Change the policy or the sources while everything runs, and wait until it is true."""
        self.policy = policy or self.policy
        self.active = active or self.active
        self._write_controller()
        await self.ready()

    async def admit(self, source: str) -> None:
        """Add a source while everything runs, and wait until its head obeys it. Raises Unreachable."""
        self.active = [*self.active, source]
        self._write_controller()
        head = next(row.device for row in self.sources if row.id == source)
        until = time.monotonic() + START_S_MAX
        while not self.watcher.admits(head, source):
            if time.monotonic() > until:
                raise Unreachable(f"source {source} is not admitted after {START_S_MAX:g} s (logs in {self.folder})")
            await asyncio.sleep(0.05)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        options = self.options
        export(OURS["resnet56"], self.folder / "store" / MODEL, MODEL, units=options.units)
        for device in self.devices:
            (self.folder / f"{device}.toml").write_text(self._device_config(device))
        self._write_controller()
        if options.broker is None:
            self._write_broker()

    def _write_broker(self) -> None:
        port = BrokerConfig(self.url).address()[1]
        lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "set_tcp_nodelay true"]
        lines += ["max_queued_messages 100000", f"persistence {'true' if self.options.persistence else 'false'}"]
        if self.options.persistence:
            lines += [f"persistence_location {self.folder}/", "autosave_on_changes true", "autosave_interval 1"]
        if os.geteuid() == 0:
            lines.append("user root")
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def _command(self, name: str) -> List[str]:
        pamdi = [sys.executable, "-m", "pamdi"]
        if name == "controller":
            return [*pamdi, "controller", "--config", str(self.folder / "controller.toml")]
        if name != "broker":
            return [*pamdi, "daemon", "--config", str(self.folder / f"{name}.toml")]
        embedded = self.options.embedded or os.environ.get("PAMDI_DEMO_EMBEDDED_BROKER") == "1"
        mosquitto = None if embedded else mosquitto_path()
        if mosquitto is not None:
            self.broker_name = "mosquitto"
            return [mosquitto, "-c", str(self.folder / "mosquitto.conf")]
        self.broker_name = "the embedded broker (amqtt)"
        port = BrokerConfig(self.url).address()[1]
        return [sys.executable, "-m", "pamdi.demo.embedded_broker", "--port", str(port)]

    async def _broker_listens(self) -> None:
        host, port, _ = BrokerConfig(self.url).address()
        until = time.monotonic() + START_S_MAX
        while time.monotonic() < until:
            if self.dead():
                break
            with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1.0):
                return
            await asyncio.sleep(0.05)
        log = (self.folder / "broker.log").read_text().strip().splitlines()
        raise Unreachable(f"the broker does not start: {log[-1] if log else 'it said nothing'}")

    def _device_config(self, device: str) -> str:
        o, folder = self.options, self.folder
        return f"""id = "{device}"
type = "demo-board"
store = "{folder}/store"
memory_bytes = {o.memory_bytes}
runtime_dir = "{folder}/run-{device}"
state_dir = "{folder}/state-{device}"
drain_s = 3.0
stats_every_s = 5.0
[broker]
url = "{self.url}"
[listen]
host = "127.0.0.1"
[backend]
name = "onnxruntime"
threads = 1
optimisation = "off"
[emulation]
compute = true
link_rate_bytes_per_s = {o.link_rate_bytes_per_s}
link_delay_s = {o.link_delay_s}
"""

    def _write_controller(self) -> None:
        o = self.options
        text = f"""state_dir = "{self.folder}/state-controller"
policy = "{self.policy}"
settle_s = 0.3
gone_after_s = {o.gone_after_s}
[broker]
url = "{self.url}"
[[model]]
id = "{MODEL}"
dir = "{self.folder}/store/{MODEL}"
[model.seconds]
demo-board = {[o.unit_s] * o.units}
[[mesh]]
devices = "all"
rate_bytes_per_s = {o.link_rate_bytes_per_s}
delay_s = {o.link_delay_s}
"""
        for source in self.sources:
            if source.id in self.active:
                text += f"""[[source]]
id = "{source.id}"
model = "{MODEL}"
device = "{source.device}"
gamma = {source.gamma}
rate_hz = {self.rate_hz(source)}
durability = "{o.durability}"
"""
        path = self.folder / "controller.toml"
        temporary = path.with_suffix(".new")
        temporary.write_text(text)
        temporary.replace(path)

    def rate_hz(self, source: SourceRow) -> float:
        """Works per second that ask for ``source.share`` of the devices' computing."""
        o = self.options
        return source.share * o.devices / (o.units * o.unit_s)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    """A killed demo must not leave a fleet behind. A Ctrl-C is for the demo alone, which then stops the fleet."""
    os.setpgrp()
    with contextlib.suppress(OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


__all__ = ["MODEL", "Fleet", "Options", "SourceRow", "mosquitto_path"]
