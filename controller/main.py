"""``pamdi controller``: the shell around ``rollout``. MQTT in, retained documents out, the configuration re-read when
it changes. Restarting it stops no work: devices obey what is retained."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Callable, Optional

import msgspec
import uvloop

from pamdi.client.loops import run_together
from pamdi.client.mqtt import Connection, Will
from pamdi.client.payloads import ResultJson, id_of, read_command
from pamdi.controller.config import read_config
from pamdi.controller.rollout import Rollout
from pamdi.core.allocation import AllocationState, DeviceInfo, SourceSpec
from pamdi.core.errors import BadInput, PamdiError, Reason
from pamdi.core.topics import Topic, Topics
from pamdi.daemon.notify import Notifier

TICK_S = 0.1
COMMANDS_MAX = 1000


class Controller:
    def __init__(self, path: Path, log: Callable[[str], None]) -> None:
        self._path, self._log = path, log
        self._config, wanted = read_config(path)
        self._read_at = self._stamp()
        self._epoch_file = Path(self._config.state_dir) / "epoch"
        self._rollout = Rollout(wanted, self._kept_epoch())
        self._topics = Topics(self._config.broker.prefix)
        self._loop = asyncio.get_running_loop()
        self._commands: "dict[str, None]" = {}
        self._refused: "dict[str, str]" = {}
        self._stop = asyncio.Event()
        self._notifier = Notifier()
        self._sources: "set[str]" = set()
        self._listening_since: Optional[float] = None
        will = Will(self._topics.controller("state"), b"offline")
        self._mqtt = Connection(
            self._config.broker, "pamdi-controller", self._message, self._connected, will, log
        )  # fmt: skip
        for topic in ("state", "info", "allocation/state", "drain"):
            self._mqtt.subscribe(self._topics.device("+", topic))
        self._mqtt.subscribe(self._topics.source("+", "submit"))
        self._mqtt.subscribe(self._topics.controller("reallocate"))

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Control the fleet until stopped."""
        await run_together({"broker": self._mqtt.run(), "work": self._work(), "stop": self._until_stopped()})

    async def _until_stopped(self) -> None:
        await self._stop.wait()
        self._notifier.stopping()
        self._mqtt.publish(self._topics.controller("state"), b"stopped", 1, True)
        await self._mqtt.drain(2.0)

    async def _work(self) -> None:
        await self._mqtt.connected.wait()
        self._notifier.ready()
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            self._notifier.watchdog()
            if ticks % 5 == 0:
                self._reread()
            ticks += 1
            # After a (re)connect the retained state comes in a burst; a plan made in its middle would be wrong.
            quiet = self._listening_since is not None and self._now() >= self._listening_since + self._config.settle_s
            if self._mqtt.connected.is_set() and quiet:
                self._publish_changes()

    def _publish_changes(self) -> None:
        documents = self._rollout.tick(self._now())
        for source, why in self._rollout.placement.refused.items():
            if self._refused.get(source) != why:
                self._log(f"source {source} is not admitted: {why}")
        self._refused = dict(self._rollout.placement.refused)
        if documents:
            self._keep_epoch(self._rollout.epoch)
            self._log(
                f"epoch {self._rollout.epoch}: {', '.join(f'{d} {len(a.segments)}' for d, a in documents.items())}"
            )
            for id in documents:
                self._publish_allocation(id)
        self._notifier.status(f"epoch {self._rollout.epoch}, {len(self._rollout.published)} devices")
        self._publish_sources()

    def _publish_allocation(self, id: str) -> None:
        document = self._rollout.published[id]
        self._mqtt.publish(self._topics.device(id, "allocation/set"), msgspec.json.encode(document), 1, True)

    def _publish_sources(self, again: bool = False) -> None:
        wanted = {source.id: source for source in self._rollout.wanted.sources}
        for id in self._sources - set(wanted):
            self._mqtt.publish(self._topics.source(id, "config"), b"", 1, True)
        for id in set(wanted) if again else set(wanted) - self._sources:
            self._mqtt.publish(self._topics.source(id, "config"), msgspec.json.encode(wanted[id]), 1, True)
        self._sources = set(wanted)

    def _connected(self) -> None:
        self._listening_since = self._now()
        self._mqtt.publish(self._topics.controller("state"), b"online", 1, True)
        for id in self._rollout.published:
            self._publish_allocation(id)
        self._publish_sources(again=True)

    # -- messages --------------------------------------------------------------------------------------------------

    def _message(self, topic: str, payload: bytes, retained: bool) -> None:
        parsed = self._topics.parse(topic)
        if parsed is None or not payload:
            return
        try:
            self._understand(parsed, payload)
        except (BadInput, msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            self._log(f"{topic}: {error}")

    def _understand(self, topic: Topic, payload: bytes) -> None:
        now, rollout = self._now(), self._rollout
        if topic.kind == "source":
            self._submitted(topic.id, payload)
        elif topic.leaf == "state":
            rollout.heard_state(topic.id, payload.decode(), now)
        elif topic.leaf == "info":
            rollout.heard_info(topic.id, msgspec.json.decode(payload, type=DeviceInfo), now)
        elif topic.leaf == "allocation/state":
            rollout.heard_allocation(topic.id, msgspec.json.decode(payload, type=AllocationState), now)
        else:
            self._command(topic, payload)

    def _command(self, topic: Topic, payload: bytes) -> None:
        command = read_command(payload)
        if command.id not in self._commands:
            self._commands[command.id] = None
            while len(self._commands) > COMMANDS_MAX:
                del self._commands[next(iter(self._commands))]
            if topic.leaf == "drain":
                said = self._rollout.drain(topic.id, command.on, self._now())
            else:
                self._rollout.reallocate(self._now())
                said = "the allocation is made anew"
            self._log(f"command {command.id}: {said}")
        else:
            said = "done before"
        report = msgspec.json.encode({"id": command.id, "said": said, "epoch": self._rollout.epoch})
        self._mqtt.publish(self._topics.controller("report"), report, 1)

    def _submitted(self, source: str, payload: bytes) -> None:
        """Only what nobody else can answer: a source that does not exist, or whose head is away."""
        spec, present = self._rollout.head_of(source)
        if present or (spec is not None and self._rollout.epoch == 0):
            return
        id = id_of(payload)
        if id is None:
            return
        reason, detail = self._why_not(source, spec)
        refused = ResultJson(id, "refused", reason.value, detail, retry_after_s=1.0 if spec is not None else None)
        self._mqtt.publish(self._topics.source(source, "result"), msgspec.json.encode(refused), 1)

    def _why_not(self, source: str, spec: Optional[SourceSpec]) -> "tuple[Reason, str]":
        if spec is None:
            known = ", ".join(s.id for s in self._rollout.wanted.sources)
            return Reason.UNKNOWN_SOURCE, f"no source {source}; there are {known}"
        if source in self._rollout.placement.refused:
            return Reason.NO_ROUTE, self._rollout.placement.refused[source]
        return Reason.HEAD_AWAY, f"{spec.device}, the device of {source}, is not online"

    # -- files -----------------------------------------------------------------------------------------------------

    def _reread(self) -> None:
        stamp = self._stamp()
        if stamp == self._read_at:
            return
        self._read_at = stamp
        try:
            _, wanted = read_config(self._path)
        except PamdiError as error:
            self._log(f"the new configuration is not used: {error}")
            return
        self._rollout.configure(wanted, self._now())
        self._log("the configuration has changed and is in use")

    def _stamp(self) -> "tuple[int, int]":
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0)
        return (status.st_mtime_ns, status.st_size)

    def _kept_epoch(self) -> int:
        try:
            return int(self._epoch_file.read_text())
        except (OSError, ValueError):
            return 0

    def _keep_epoch(self, epoch: int) -> None:
        try:
            self._epoch_file.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._epoch_file.with_suffix(".new")
            temporary.write_text(str(epoch))
            temporary.replace(self._epoch_file)
        except OSError as error:
            self._log(f"{self._epoch_file}: {error.strerror}: devices' own epochs will be used after a restart")

    def _now(self) -> float:
        return self._loop.time()


def run(path: Path) -> int:
    uvloop.install()
    asyncio.run(_serve(path))
    return 0


async def _serve(path: Path) -> None:
    controller = Controller(path, lambda line: print(line, file=sys.stderr, flush=True))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, controller.stop)
    with contextlib.suppress(asyncio.CancelledError):
        await controller.run()
