"""A real daemon process for tests, and somebody who plays the controller."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, AsyncIterator, Dict, List, Optional, Union

import msgspec

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.mqtt import Connection
from pamdi.core.allocation import DeviceAllocation, ModelSpec, Neighbour, Resident, SourceSpec
from pamdi.core.topics import Topics
from pamdi.engines.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "tests" / "engines" / "store"
MODEL = "resnet56-digits"
WAIT_S = 60.0  # for what takes a second on an idle machine


def config_text(url: str, folder: Path, id: str = "d0", extra: str = "", port: int = 0) -> str:
    return f"""id = "{id}"
type = "test-board"
store = "{STORE}"
memory_bytes = 100000000
runtime_dir = "{folder}/run-{id}"
state_dir = "{folder}/state-{id}"
drain_s = 2.0
{extra}
[broker]
url = "{url}"
[listen]
host = "127.0.0.1"
port = {port}
[backend]
optimisation = "off"
"""


# Run before it: a newcomer that waits for the broker, and for whoever holds its name, however long they take. Without
# this, one who is not answered soon begins to work, and says so, until the other comes round.
PATIENT = f"import pamdi.client.claim as claim; claim.CONNECT_S = claim.ANSWER_S = {WAIT_S}"


def pamdi(*words: str, before: str = "") -> List[str]:
    """The command, in whose process the code ``before`` has been run."""
    if not before:
        return [sys.executable, "-m", "pamdi", *words]
    return [sys.executable, "-c", f"{before}\nimport sys, pamdi.cli.main\nsys.exit(pamdi.cli.main.main({words!r}))"]


class Daemon:
    """``pamdi daemon`` as a process; ``log()`` is what it has said."""

    def __init__(
        self, folder: Path, text: str, name: str = "d0", environment: Optional[Dict[str, str]] = None, before: str = ""
    ) -> None:
        self._before = before
        self._config = folder / f"{name}.toml"
        self._config.write_text(text)
        self._log = folder / f"{name}.log"
        self._environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"), **(environment or {}))
        self.start()

    def start(self) -> None:
        command = pamdi("daemon", "--config", str(self._config), before=self._before)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)

    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=WAIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()

    async def says(self, words: str, within_s: float = WAIT_S) -> None:
        until = time.monotonic() + within_s
        while words not in self.log():
            assert time.monotonic() < until and self.process.poll() is None, f"never said {words!r}: {self.log()}"
            await asyncio.sleep(0.05)


class Ear:
    """Hears every topic, and publishes what a controller would."""

    def __init__(self, broker: "Union[str, BrokerConfig]") -> None:
        self.topics = Topics()
        self.heard: List["tuple[str, bytes]"] = []
        self._more = asyncio.Event()
        config = BrokerConfig(broker) if isinstance(broker, str) else broker
        self.mqtt = Connection(config, f"ear-{time.monotonic_ns()}", self._message)
        self.mqtt.subscribe("pamdi/v1/#")

    def _message(self, topic: str, payload: bytes, retained: bool) -> None:
        self.heard.append((topic, payload))
        self._more.set()

    async def until(self, topic: str, words: bytes, within_s: float = WAIT_S) -> bytes:
        """The first payload of ``topic`` that contains ``words``."""

        async def look() -> bytes:
            while True:
                for name, payload in self.heard:
                    if name == topic and words in payload:
                        return payload
                self._more.clear()
                await self._more.wait()

        return await asyncio.wait_for(look(), within_s)

    def allocate(self, device: str, epoch: int = 1, neighbours: "tuple[Neighbour, ...]" = (), **source: Any) -> None:
        manifest = read_manifest(STORE / MODEL)
        spec = SourceSpec("gate", MODEL, "d0", gamma=10.0, **source)
        inputs = tuple(
            (t.name, t.dtype, tuple(size if isinstance(size, int) else -1 for size in t.shape))
            for t in manifest.boundaries[0]
        )
        document = DeviceAllocation(
            epoch=epoch,
            segments=tuple(Resident(MODEL, s.first, s.stop, s.sha256, 0.01, 1000) for s in manifest.segments),
            sources=(spec, SourceSpec("yard", MODEL, "d0")),
            models=(ModelSpec(MODEL, manifest.bytes, inputs),),
            neighbours=neighbours,
        )
        self.mqtt.publish(self.topics.device(device, "allocation/set"), msgspec.json.encode(document), 1, True)


@contextlib.asynccontextmanager
async def listening(broker: "Union[str, BrokerConfig]") -> AsyncIterator[Ear]:
    """``broker``: its url, or all that is needed to reach it."""
    ear = Ear(broker)
    task = asyncio.ensure_future(ear.mqtt.run())
    try:
        await asyncio.wait_for(ear.mqtt.connected.wait(), WAIT_S)
        yield ear
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
