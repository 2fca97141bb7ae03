"""An epoch of a large fleet on a real broker: seconds, bytes, memory, and what it means to who waits beside it.

    python -m benchmarks.publishing [--fleets 1000x200] [--mesh] [--searched]

Everybody's documents go through the controller's own connection to a mosquitto with the limits of ``examples/``, whose
subscribers hear one topic per device. Twice, one after the other, each in a process of its own: *before* everything was
told to everybody and handed to the connection at once; *now* a device is told what it uses (``controller/narrow.py``)
and documents wait outside the connection (``controller/outbox.py``). *acknowledged*, *heard*: seconds until the broker
had, and the subscribers had heard, the last of them; *loop*: for how long the controller's loop stood still at most;
*a word*: until a message that was said right after the epoch was acknowledged; memory is resident, of the controller's
process above what it had before, of the broker altogether. *late*: how many of the documents are heard by somebody who
subscribes to all of them afterwards, as ``pamdi status`` does; *dropped*: documents for which the connection's queue
had no room. With ``--searched`` it is the last epoch after the search beside, whose routes are many more (in a mesh the
search takes a minute and a half of a processor, twice).
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional
from unittest.mock import patch

import msgspec
from tests.brokers import have_mosquitto, running, start_mosquitto

from benchmarks.allocation import SETTINGS, large_fleet
from benchmarks.live import Documents, controlled, epochs, sizes, ticks
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.mqtt import Connection
from pamdi.controller import narrow
from pamdi.controller.beside import searched
from pamdi.controller.outbox import Outbox
from pamdi.core.allocation import SMALL_FLEET_DEVICES_MAX
from pamdi.core.topics import Topics

SAMPLE = Path(__file__).resolve().parent.parent / "examples" / "mosquitto.conf"
LISTENERS = 50
LIMITS = ("message_size_limit", "max_queued_", "max_inflight_messages", "max_connections")
SET, WAIT_S, SILENT_S = "allocation/set", 600.0, 5.0


def limits() -> str:
    """What the sample configuration says of them. (The tests' brokers bound how many messages are queued otherwise.)"""
    return "\n".join(line for line in SAMPLE.read_text().splitlines() if line.startswith(LIMITS))


class Speaker:
    """The controller's side. ``hand_over``: how documents go to the connection."""

    def __init__(self, url: str, broker: int) -> None:
        self._topics, self._broker = Topics(), broker
        self._mqtt = Connection(BrokerConfig(url), "pamdi-controller", lambda *_: None)
        self.left = self.bytes = self.dropped = 0
        self._lag_s = self._peak = 0.0

    async def tell(self, documents: Documents, lean: bool) -> Dict[str, Any]:
        loops = [asyncio.ensure_future(loop) for loop in (self._mqtt.run(), self._watch())]
        await asyncio.wait_for(self._mqtt.connected.wait(), WAIT_S)
        await asyncio.sleep(0.2)
        at_first, self._lag_s, self.left = resident_mb("self"), 0.0, len(documents)
        word: List[float] = []
        began, cpu_s = time.time(), time.process_time()
        if lean:
            Outbox(self._publish, print).tell(documents)
        else:
            for id, document in documents.items():
                self._publish(id, msgspec.json.encode(document), lambda accepted: None)
        if not self._mqtt.publish(self._topics.controller("report"), b"{}", 1, False, lambda: word.append(time.time())):
            word.append(float("inf"))
        until = began + WAIT_S
        while (self.left > self.dropped or not word) and time.time() < until:
            await asyncio.sleep(0.005)
        acknowledged, cpu_s = time.time(), time.process_time() - cpu_s
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        return {
            "began": began, "documents": len(documents), "dropped": self.left, "mb": self.bytes / 1e6,
            "acknowledged_s": acknowledged - began, "cpu_s": cpu_s, "loop_s": self._lag_s, "word_s": word[0] - began,
            "controller_mb": self._peak - at_first, "broker_mb": resident_mb(self._broker),
        }  # fmt: skip

    def _publish(self, id: str, payload: bytes, done: Callable[[bool], None]) -> bool:
        def acknowledged() -> None:
            self.left -= 1
            done(True)

        self.bytes += len(payload)
        taken = self._mqtt.publish(self._topics.device(id, SET), payload, 1, True, acknowledged)
        self.dropped += not taken
        return taken

    async def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            self._lag_s = max(self._lag_s, time.perf_counter() - began - 0.01)
            self._peak = max(self._peak, resident_mb("self"))


def resident_mb(pid: "int | str") -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


async def listen(url: str, devices: int) -> None:
    """Says when the subscriptions are there, then what has been heard when nothing more comes."""
    heard: Dict[str, float] = {}
    topics = Topics()
    ears = [Connection(BrokerConfig(url), f"ear{n}", noting(heard)) for n in range(LISTENERS)]
    there: List[int] = []
    for n in range(devices):
        ears[n % LISTENERS].subscribe(topics.device(f"d{n:05d}", SET), then=lambda: there.append(1))
    loops = [asyncio.ensure_future(ear.run()) for ear in ears]
    while len(there) < devices:
        await asyncio.sleep(0.01)
    print("there", flush=True)
    await silence(heard, devices, WAIT_S)
    print(json.dumps({"heard": len(heard), "last": max(heard.values(), default=0.0)}), flush=True)
    for loop in loops:
        loop.cancel()


async def listen_late(url: str, devices: int) -> None:
    """To everything that is retained."""
    heard: Dict[str, float] = {}
    ear = Connection(BrokerConfig(url), "late", noting(heard))
    ear.subscribe(Topics().device("+", SET))
    began, loop = time.time(), asyncio.ensure_future(ear.run())
    await silence(heard, devices, SILENT_S)
    loop.cancel()
    print(json.dumps({"late": len(heard), "late_s": max(heard.values(), default=began) - began}), flush=True)


def noting(heard: Dict[str, float]) -> Callable[[str, bytes, bool], None]:
    """When each topic was heard last."""
    return lambda topic, payload, retained: heard.update({topic: time.time()})


async def silence(heard: Dict[str, float], devices: int, wait_s: float) -> None:
    """Until all ``devices`` have been heard, or nothing comes any more; ``wait_s`` for the first."""
    until = time.time() + wait_s
    while len(heard) < devices and time.time() < max(heard.values(), default=until - SILENT_S) + SILENT_S:
        await asyncio.sleep(0.01)


def speak(name: str, mesh: bool, after: bool, url: str, broker: int, lean: bool) -> Dict[str, Any]:
    load, memory = SETTINGS["light"]
    rollout = controlled(large_fleet(*sizes(name), load=load, memory=memory), mesh)
    whole_up_to = SMALL_FLEET_DEVICES_MAX if lean else sys.maxsize
    with patch.object(narrow, "SMALL_FLEET_DEVICES_MAX", whole_up_to):
        ticks(rollout)
        documents = dict(rollout.published)
        if after:
            list(epochs(rollout, documents, 100.0))
            question = rollout.question
            assert question is not None
            rollout.answered(question, asyncio.run(searched(question, lambda: True)))
            documents = list(epochs(rollout, {}, 200.0))[-1]
    return asyncio.run(Speaker(url, broker).tell(documents, lean))


def measured(name: str, mesh: bool, after: bool, lean: bool) -> Dict[str, Any]:
    devices, _ = sizes(name)
    with tempfile.TemporaryDirectory() as folder, running(start_mosquitto(Path(folder), config=limits())) as broker:
        command = [sys.executable, "-m", "benchmarks.publishing", "--fleets", name, "--url", broker.url]
        command += ["--broker", str(broker.pid)] + (["--mesh"] if mesh else [])
        command += ["--searched"] if after else []
        ears = subprocess.Popen([*command, "--role", "ears"], stdout=subprocess.PIPE, text=True)
        try:
            assert ears.stdout is not None
            ears.stdout.readline()
            role = "now" if lean else "before"
            said = subprocess.run([*command, "--role", role], stdout=subprocess.PIPE, text=True, check=True).stdout
            found: Dict[str, Any] = json.loads(said.splitlines()[-1])
            heard = json.loads(ears.stdout.readline())
            late = subprocess.run([*command, "--role", "late"], stdout=subprocess.PIPE, text=True, check=True).stdout
        finally:
            ears.kill()
            ears.wait()
    return {**found, **json.loads(late), "heard": heard["heard"], "heard_s": heard["last"] - found["began"]}


def said(name: str, found: Dict[str, Any], how: str) -> str:
    parts = [
        f"{found['documents']} documents, {found['mb']:.0f} MB, {found['dropped']} dropped",
        f"acknowledged {found['acknowledged_s']:.2f} s, {found['heard']} heard {found['heard_s']:.2f} s",
        f"processor {found['cpu_s']:.2f} s, loop {found['loop_s']:.2f} s, a word {found['word_s']:.2f} s",
        f"controller +{found['controller_mb']:.0f} MB, broker {found['broker_mb']:.0f} MB",
        f"late {found['late']} in {found['late_s']:.2f} s",
    ]
    return f"{name} {how}: " + "; ".join(parts)


def compare(name: str, mesh: bool, after: bool = False) -> bool:
    """Whether nothing is left unsaid or unheard now."""
    if not have_mosquitto():
        print(f"{name}: publishing is not measured: mosquitto is not installed", flush=True)
        return True
    before, now = measured(name, mesh, after, False), measured(name, mesh, after, True)
    where = name + (" mesh" if mesh else "")
    print(said(where, before, "before"), said(where, now, "now   "), sep="\n", flush=True)
    kept = ("mb", "acknowledged_s", "loop_s", "word_s", "controller_mb", "broker_mb")
    ratios = ", ".join(f"{key} {now[key] / max(before[key], 1e-9):.2f}" for key in kept)
    print(f"{where} now / before: {ratios}", flush=True)
    return not now["dropped"] and bool(now["heard"] == now["late"] == now["documents"])


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fleets", nargs="+", default=["1000x200"])
    parser.add_argument("--mesh", action="store_true")
    parser.add_argument("--searched", action="store_true")
    for part in ("--role", "--url"):  # of the processes that this starts
        parser.add_argument(part, help=argparse.SUPPRESS)
    parser.add_argument("--broker", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.role in ("ears", "late"):
        listens = listen if asked.role == "ears" else listen_late
        asyncio.run(listens(asked.url, sizes(asked.fleets[0])[0]))
        return 0
    if asked.role:
        print(
            json.dumps(speak(asked.fleets[0], asked.mesh, asked.searched, asked.url, asked.broker, asked.role == "now"))
        )
        return 0
    return 0 if all(compare(name, asked.mesh, asked.searched) for name in asked.fleets) else 1


if __name__ == "__main__":
    sys.exit(main())
