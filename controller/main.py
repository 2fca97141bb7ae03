"""``pamdi controller``: the shell around ``rollout``. MQTT in, retained documents out, the configuration re-read when
it changes or on SIGHUP. Restarting it stops no work: devices obey what is retained."""

import asyncio
import contextlib
import signal
import time
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Optional, Sequence, Set, Tuple

import msgspec
import uvloop

from pamdi.client.claim import Claim
from pamdi.client.device_stats import DeviceStats
from pamdi.client.log_line import log_line
from pamdi.client.loops import run_together
from pamdi.client.mqtt import Connection, Will
from pamdi.client.payloads import ResultJson, id_of, read_command
from pamdi.controller.beside import SearchFailed, searched
from pamdi.controller.commands import Commands
from pamdi.controller.config import WatchedConfig
from pamdi.controller.kept import KeptFile
from pamdi.controller.narrow import is_small
from pamdi.controller.outbox import Outbox
from pamdi.controller.rollout import Rollout
from pamdi.controller.slowed import BeaconSeconds
from pamdi.core.allocation import AllocationState, DeviceInfo, SourceSpec
from pamdi.core.errors import BadInput, PamdiError, Reason
from pamdi.core.topics import Topic, Topics
from pamdi.daemon.notify import Notifier

TICK_S = 0.1
REREAD_TICKS = 5
FLUSH_S = 2.0
NAMED_MAX = 5  # devices and links in one line of the log


_beacon, _stats = msgspec.json.Decoder(BeaconSeconds), msgspec.json.Decoder(DeviceStats)


class Controller:
    def __init__(self, path: Path, log: Callable[[str], None]) -> None:
        self._log = log
        self._file = WatchedConfig(path)
        config = self._file.config
        self._kept_file = KeptFile(Path(config.state_dir))
        self._kept = self._kept_file.read()
        if self._kept_file.said:
            log(self._kept_file.said)
        self._rollout = Rollout(self._file.wanted, self._kept)
        self._commands = Commands(self._rollout, lambda: self._file.rejected)
        self._topics = Topics(config.broker.prefix)
        self._loop = asyncio.get_running_loop()
        self._stop, self._hup = asyncio.Event(), False
        self._notifier = Notifier()
        self._sources: Dict[str, bytes] = {}
        self._strange_sources: Set[str] = set()
        self._said: Set[str] = set()
        self._listening_since: Optional[float] = None
        self.unreadable = 0
        will = Will(self._topics.controller("state"), b"offline")
        self._mqtt = Connection(config.broker, "pamdi-controller", self._message, self._connected, will, log)
        self._outbox = Outbox(self._publish_allocation, log)
        for topic in ("state", "info", "allocation/state", "drain", "beacon", "stats"):
            self._mqtt.subscribe(self._topics.device("+", topic))
        for topic in ("config", "submit", "cancel"):
            self._mqtt.subscribe(self._topics.source("+", topic))
        for topic in ("state", "reallocate"):
            self._mqtt.subscribe(self._topics.controller(topic))

        topics = self._topics
        self._claim = Claim(
            config.broker, "pamdi-controller", topics.controller("alive/ask"), topics.controller("alive/tell"),
            time.time_ns(), f"a controller is already running at broker {config.broker.url}: stop one of the two, or "
            "give this one's fleet another [broker] prefix",
        )  # fmt: skip
        self._mqtt.subscribe(topics.controller("alive/ask"))
        self._mqtt.on_contested = self._claim.contest

    def stop(self) -> None:
        self._stop.set()

    def reread(self) -> None:
        """SIGHUP."""
        self._hup = True

    async def run(self) -> None:
        """Control the fleet until stopped."""
        try:
            await run_together(
                {"claim": self._claim.keep(), "control": self._control(), "stop": self._until_stopped()}
            )  # fmt: skip
        finally:
            self._notifier.close()

    async def _control(self) -> None:
        self._notifier.status("waiting for the broker")
        await self._claim.free()
        await run_together({"broker": self._mqtt.run(), "work": self._work(), "search": self._search()})

    async def _until_stopped(self) -> None:
        await self._stop.wait()
        self._notifier.stopping()
        self._mqtt.publish(self._topics.controller("state"), b"stopped", 1, True)
        await self._mqtt.drain(FLUSH_S)

    async def _work(self) -> None:
        await self._mqtt.connected.wait()
        self._notifier.ready()
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            self._notifier.watchdog()
            if ticks % REREAD_TICKS == 0 or self._hup:
                self._reread()
            ticks += 1
            if self._informed():
                self._publish_changes()

    async def _search(self) -> None:
        """What a large fleet's tick leaves open is searched beside, one question at a time."""
        rollout = self._rollout
        while True:
            await asyncio.sleep(TICK_S)
            question = rollout.question
            if question is None:
                continue
            try:
                found = await searched(question, partial(rollout.asks, question))
            except SearchFailed as error:
                self._log(f"the search for a better plan came to nothing, the plan stays as it is: {error}")
                found = None
            rollout.answered(question, found)

    def _informed(self) -> bool:
        """After a (re)connect the retained state comes in a burst; a decision made in its middle would be wrong."""
        quiet_s = max(self._file.config.settle_s, TICK_S)
        since = self._listening_since
        return self._mqtt.connected.is_set() and since is not None and self._now() >= since + quiet_s

    # -- out -------------------------------------------------------------------------------------------------------

    def _publish_changes(self) -> None:
        rollout = self._rollout
        documents = rollout.tick(self._now())
        self._keep()
        if documents:
            told = [f"{id} {len(document.segments)}" for id, document in documents.items()]
            self._log(f"epoch {rollout.epoch}: {', '.join(told) if is_small(len(told)) else _few(told)}")
        self._outbox.tell(documents)
        self._outbox.go_on()
        self._say_news()
        self._publish_sources()
        for report in self._commands.finished(self._now()):
            self._log(f"command {report.id}: {report.status}: {report.said}")
            self._mqtt.publish(self._topics.controller("report"), msgspec.json.encode(report), 1)
        self._notifier.status(
            f"epoch {rollout.epoch}, {len(rollout.published)} devices, {len(rollout.refused)} refused"
        )

    def _say_news(self) -> None:
        """Each remark once, until it has gone."""
        rollout = self._rollout
        lines = {f"source {id} is not admitted: {why}" for id, why in rollout.refused.items()} | set(rollout.remarks)
        lines |= set(rollout.conditions())
        if rollout.weighed is not None:
            why = f" for {_few(rollout.why)}" if rollout.why else ""
            lines.add(f"planned again{why}: {rollout.weighed.said}")
        for id, seen in rollout.devices.items():
            lines |= {f"{id}: {unit[0]}[{unit[1]}] is broken: {b.reason}" for unit, b in seen.broken.items()}
        for line in sorted(lines - self._said):
            self._log(line)
        self._said = lines

    def _publish_allocation(self, id: str, payload: bytes, done: Callable[[bool], None]) -> bool:
        topic = self._topics.device(id, "allocation/set")
        return self._mqtt.publish(topic, payload, 1, True, lambda: done(True), lambda why: done(False))

    def _publish_sources(self, again: bool = False) -> None:
        # Every key is written out, defaults too: people read this, and other programs.
        wanted = {s.id: msgspec.json.encode(msgspec.structs.asdict(s)) for s in self._rollout.wanted.sources}
        for id in (self._strange_sources | set(self._sources)) - set(wanted):
            self._mqtt.publish(self._topics.source(id, "config"), b"", 1, True)
        self._strange_sources.clear()
        for id, document in wanted.items():
            if again or self._sources.get(id) != document:
                self._mqtt.publish(self._topics.source(id, "config"), document, 1, True)
        self._sources = wanted

    def _connected(self) -> None:
        self._claim.up.set()
        self._listening_since = self._now()
        # Asked to stop before it was connected, it has said so already, and must not be online after that.
        state = b"stopped" if self._stop.is_set() else b"online"
        self._mqtt.publish(self._topics.controller("state"), state, 1, True)
        self._outbox.again(self._rollout.published)
        self._publish_sources(again=True)

    # -- in --------------------------------------------------------------------------------------------------------

    def _message(self, topic: str, payload: bytes, retained: bool) -> None:
        parsed = self._topics.parse(topic)
        if parsed is None or not payload:
            return
        try:
            self._understand(parsed, payload)
        except (BadInput, msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
            self.unreadable += 1
            self._log(f"{topic}: {error} ({self.unreadable} unreadable so far)")

    def _understand(self, topic: Topic, payload: bytes) -> None:
        now, rollout = self._now(), self._rollout
        if topic.kind == "source" and topic.leaf in ("submit", "cancel"):
            self._nobody_else_answers(topic, payload)
        elif topic.kind == "source":
            if topic.id not in self._sources:
                self._strange_sources.add(topic.id)  # of a former configuration: cleared with the next change
        elif topic.leaf == "alive/ask":
            if self._claim.holds:
                self._mqtt.publish(self._topics.controller("alive/tell"), str(self._claim.instance).encode(), 1)
        elif topic.kind == "controller" and topic.leaf == "state":
            if payload == b"offline" and not self._stop.is_set():  # our own will, published after we came back
                self._mqtt.publish(self._topics.controller("state"), b"online", 1, True)
        elif topic.leaf == "state":
            rollout.heard_state(topic.id, payload.decode(), now)
        elif topic.leaf == "info":
            rollout.heard_info(topic.id, msgspec.json.decode(payload, type=DeviceInfo), now)
        elif topic.leaf == "allocation/state":
            rollout.heard_allocation(topic.id, msgspec.json.decode(payload, type=AllocationState), now)
        elif topic.leaf == "beacon":
            rollout.heard_beacon(topic.id, _beacon.decode(payload).ready, now)
        elif topic.leaf == "stats":
            stats = _stats.decode(payload)
            rollout.heard_power_mode(topic.id, stats.power_mode)
            rollout.heard_links(topic.id, stats.probes, now)
        else:
            command = read_command(payload)
            report = self._commands.obey(topic, command.id, command.on, now)
            self._keep()
            self._log(f"command {report.id}: {report.status}: {report.said}")
            self._mqtt.publish(self._topics.controller("report"), msgspec.json.encode(report), 1)

    def _nobody_else_answers(self, topic: Topic, payload: bytes) -> None:
        """A submission or a cancellation for a source that does not exist, or whose head is away."""
        source = topic.id
        spec, present = self._rollout.head_of(source)
        if present or not self._informed():
            return
        id = id_of(payload)
        if id is None:
            self.unreadable += 1
            return
        reason, detail = self._why_not(source, spec)
        if topic.leaf == "cancel" and reason is Reason.NO_ROUTE:
            return  # its head is there, and may have works from before
        refused = ResultJson(id, "refused", reason.value, detail, retry_after_s=1.0 if spec is not None else None)
        self._mqtt.publish(self._topics.source(source, "result"), msgspec.json.encode(refused), 1)

    def _why_not(self, source: str, spec: Optional[SourceSpec]) -> Tuple[Reason, str]:
        if spec is None:
            known = ", ".join(s.id for s in self._rollout.wanted.sources) or "none"
            return Reason.UNKNOWN_SOURCE, f"no source {source}; there are {known}"
        seen = self._rollout.devices.get(spec.device)
        if seen is None or seen.life != "online":
            return Reason.HEAD_AWAY, f"{spec.device}, the device of {source}, is not online"
        return Reason.NO_ROUTE, self._rollout.refused.get(source, "it has no route")

    # -- files -----------------------------------------------------------------------------------------------------

    def _reread(self) -> None:
        hup, self._hup = self._hup, False
        try:
            wanted = self._file.changed(hup)
        except PamdiError as error:
            self._log(f"the new configuration is not used: {error}")
            return
        if wanted is not None:
            self._rollout.configure(wanted, self._now())
            self._log("the configuration has been read again and is in use")

    def _keep(self) -> None:
        """Before anything is published: an epoch that was said must never be said again."""
        kept = self._rollout.kept()
        if kept != self._kept:
            self._kept = kept
            if not self._kept_file.write(kept):
                self._log(self._kept_file.said)

    def _now(self) -> float:
        return self._loop.time()


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more


def run(path: Path) -> int:
    uvloop.install()
    asyncio.run(_serve(path))
    return 0


async def _serve(path: Path) -> None:
    controller = Controller(path, log_line)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, controller.stop)
    loop.add_signal_handler(signal.SIGHUP, controller.reread)
    with contextlib.suppress(asyncio.CancelledError):
        await controller.run()
