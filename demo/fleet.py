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
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Type

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.loops import whole, within
from pamdi.client.watcher import Watcher
from pamdi.core.errors import Unreachable
from pamdi.demo.reserved_port import reserved_port
from pamdi.engines.export import OURS, export

MODEL = "resnet56-digits"
PR_SET_PDEATHSIG = 1
START_S_MAX = 60.0
STOP_S_MAX = 5.0
BROKER_S_MAX = 10.0
REVIVE_S = 2.0  # a served process that died is away for so long, as under a service manager
YOUNG_S, YOUNG_DEATHS_MAX = 5.0, 3


class Options(NamedTuple):
    """``unit_s``: emulated seconds per unit; links in bytes per second and seconds one way; ``chain``: each device has
    a link to the next one only."""

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
    chain: bool = False
    data_plane: str = "link"


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
    """``async with Fleet(options) as fleet``: up on entry (every source admits), gone on exit.

    ``active``: the sources it begins with. ``folder`` keeps configurations and logs; it goes on exit, unless an
    error ends the fleet or ``keep_folder`` is set."""

    def __init__(self, options: Options, announce: bool = False, active: Sequence[str] = ("gate", "yard")) -> None:
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="pamdi-demo-"))
        self.sources = sources_for(options.devices)
        self.active: List[str] = list(active)
        self.policy = options.policy
        port, self._port = reserved_port()  # of the broker, unless there is one
        self.url = options.broker or f"mqtt://127.0.0.1:{port}"
        self.broker_name = "given"
        self.devices = [f"d{i}" for i in range(options.devices)]
        self.keep_folder = False
        self._ending = False
        self._announce = announce
        self._processes: Dict[str, "subprocess.Popen[bytes]"] = {}
        self._started_at: Dict[str, float] = {}
        self._killed: Set[str] = set()
        self._prctl = getattr(ctypes.CDLL(None), "prctl", None)  # looked up here: a forked child should do little
        self.watcher = Watcher(BrokerConfig(self.url))

    async def __aenter__(self) -> "Fleet":
        try:
            await whole(asyncio.get_running_loop().run_in_executor(None, self._prepare))
            if self.options.broker is None:
                self.start("broker")
            await self._broker_listens()
            self.start("controller")
            for device in self.devices:
                self.start(device)
            await self.watcher.start()
            await self.ready()
        except BaseException as error:
            await self.__aexit__(type(error))
            raise
        return self

    async def __aexit__(self, error: Optional[Type[BaseException]] = None, *rest: Any) -> None:
        failed = error is not None and issubclass(error, Exception)  # being cancelled is no failure
        self._ending = True
        await whole(self._take_down(failed))  # also for who presses Ctrl-C once more

    async def _take_down(self, failed: bool) -> None:
        await self.watcher.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._stop, failed)
        self._port.close()
        if not failed and not self.keep_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _stop(self, at_once: bool) -> None:
        """The broker last, so that the others can say goodbye."""
        for names in (["controller", *self.devices], ["broker"]):
            processes = [self._processes[name] for name in names if name in self._processes]
            for process in processes:
                process.kill() if at_once else process.terminate()
            until = time.monotonic() + STOP_S_MAX
            for process in processes:
                try:
                    process.wait(max(0.01, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    # -- processes -------------------------------------------------------------------------------------------------

    def start(self, name: str) -> int:
        """Start (again) the broker, the controller or a device. Returns its pid."""
        command = self._command(name)
        self._killed.discard(name)
        self._started_at[name] = time.monotonic()
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=self._die_with_parent
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
        self._killed.add(name)
        process = self._processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait()

    def dead(self) -> List[str]:
        """Processes that ended, and not by our ``kill``."""
        ended = [name for name, process in self._processes.items() if process.poll() is not None]
        return [name for name in ended if name not in self._killed]

    def last_words(self, name: str) -> str:
        """The last line of a process's log."""
        lines = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    async def watch(self) -> None:
        """Until cancelled. Raises Unreachable when a process ends that nobody killed."""
        while True:
            for name in self.dead():
                raise Unreachable(f"{name} ended: {self.last_words(name)} (logs in {self.folder})")
            await asyncio.sleep(0.2)

    async def keep_alive(self) -> None:
        """Until cancelled, start again what ends or is killed, as a service manager would. Raises Unreachable for a
        process that cannot live."""
        young_deaths: "Counter[str]" = Counter()
        while True:
            for name in self.dead():
                young = time.monotonic() < self._started_at[name] + YOUNG_S
                young_deaths[name] = young_deaths[name] + 1 if young else 0
                if young_deaths[name] > YOUNG_DEATHS_MAX:
                    raise Unreachable(f"{name} ends again and again: {self.last_words(name)} (logs in {self.folder})")
                self._killed.add(name)
                asyncio.get_running_loop().call_later(REVIVE_S, self._revive, name)
            await asyncio.sleep(0.05)

    def _revive(self, name: str) -> None:
        if name in self._killed and not self._ending:
            self.start(name)

    async def ready(self) -> None:
        """Wait until every device holds its part of the newest epoch under the wanted policy. Raises Unreachable."""
        until = time.monotonic() + START_S_MAX
        while not self.watcher.settled(self.devices, self.policy, self.active):
            dead = self.dead()
            if dead or time.monotonic() > until:
                what = f"{dead[0]} ended at once" if dead else f"the fleet is not ready after {START_S_MAX:g} s"
                said = self.last_words(dead[0] if dead else "controller")
                raise Unreachable(f"{what}: {said} (logs in {self.folder})")
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

    def _die_with_parent(self) -> None:
        """Runs in the child. A killed demo must not leave a fleet behind; a Ctrl-C is for the demo alone, which then
        stops the fleet."""
        os.setpgrp()
        if self._prctl is not None:
            self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

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
        until = time.monotonic() + BROKER_S_MAX
        while time.monotonic() < until and not self.dead():
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                _, writer = await within(1.0, asyncio.open_connection(host, port))
                writer.close()
                return
            await asyncio.sleep(0.05)
        if self.options.broker is not None:
            raise Unreachable(f"no broker listens at {self.url}: start it, or leave --broker out")
        raise Unreachable(f"the broker does not start: {self.last_words('broker')} (logs in {self.folder})")

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
data_plane = "{o.data_plane}"
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

    def _links(self) -> str:
        o = self.options
        if not o.chain:
            ends = ['[[mesh]]\ndevices = "all"']
        else:
            ends = [f'[[link]]\nfrom = "{a}"\nto = "{b}"' for a, b in zip(self.devices, self.devices[1:])]
        rate = f"rate_bytes_per_s = {o.link_rate_bytes_per_s}\ndelay_s = {o.link_delay_s}\n"
        return "".join(f"{end}\n{rate}" for end in ends)

    def _write_controller(self) -> None:
        o = self.options
        text = f"""state_dir = "{self.folder}/state-controller"
policy = "{self.policy}"
settle_s = 0.3
gone_after_s = {o.gone_after_s}
default_rate_bytes_per_s = 0
[broker]
url = "{self.url}"
[[model]]
id = "{MODEL}"
dir = "{self.folder}/store/{MODEL}"
[model.seconds]
demo-board = {[o.unit_s] * o.units}
{self._links()}"""
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


__all__ = ["MODEL", "Fleet", "Options", "SourceRow", "mosquitto_path"]
