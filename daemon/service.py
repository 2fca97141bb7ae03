"""The daemon: a shell around the core. Every event goes through one door; every instruction has one doer.

    sockets, threads, timers  ->  event  ->  Device.handle  ->  instructions  ->  sockets, threads, timers

Nothing is decided here. If something must wait, the core said for how long.
"""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Type

import msgspec

from pamdi.client.claim import Claim
from pamdi.client.loops import run_together
from pamdi.client.mqtt import Connection, Will
from pamdi.client.payloads import ResultJson, check_inputs, id_of, read_command, read_submission, tensors_json
from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core.allocation import DeviceAllocation
from pamdi.core.device import Device
from pamdi.core.errors import BadInput
from pamdi.core.topics import Topic, Topics
from pamdi.core.work import WorkId
from pamdi.daemon import descriptors
from pamdi.daemon.broker_plane import BrokerPlane
from pamdi.daemon.config import DaemonConfig
from pamdi.daemon.door import Door
from pamdi.daemon.engine_room import EngineRoom
from pamdi.daemon.host import describe_host
from pamdi.daemon.info import device_info
from pamdi.daemon.journal import Journal
from pamdi.daemon.kept_allocation import KeptAllocation
from pamdi.daemon.lanes import Lanes
from pamdi.daemon.link import LinkOptions
from pamdi.daemon.links import Links
from pamdi.daemon.notify import Notifier
from pamdi.daemon.probe import Probes
from pamdi.daemon.progress import InHand, feed_watchdog
from pamdi.daemon.puller import puller
from pamdi.daemon.recorder import open_recorder
from pamdi.daemon.stats import Stats
from pamdi.engines.backend import Backend
from pamdi.engines.open_backend import open_backend
from pamdi.engines.paced_backend import PacedBackend

FLUSH_S = 2.0


class Service:
    def __init__(self, config: DaemonConfig, log: Callable[[str], None], claim: Claim) -> None:
        self.config = config
        self._claim, self.instance = claim, claim.instance
        self._log = log
        self._topics = Topics(config.broker.prefix)
        self._device = Device(config.id, config.limits)
        self._notifier = Notifier()
        self.counters: "Counter[str]" = Counter()
        self._stats = Stats(describe_host())
        self._loop = asyncio.get_running_loop()
        self._stopped: "asyncio.Future[None]" = self._loop.create_future()
        self._door = Door(
            self._device, lambda: self._engines.look_ahead(self._device), self._stopped,
            open_recorder(config.record, config.id, config.limits, log), log,
        )  # fmt: skip
        self.happened = self._door.happened
        self._state = "online"
        runtime = Path(config.runtime_dir)
        self._journal = Journal(runtime, Path(config.state_dir), self._door.from_thread, log)
        self._kept = KeptAllocation(runtime, log)
        wanted = config.backend
        backend: Backend = open_backend(wanted.name, wanted.threads, wanted.optimisation, device=wanted.device, log=log)
        self._paced = PacedBackend(backend) if config.emulation.compute else None
        self._backend = self._paced or backend
        self._engines = EngineRoom(
            self._backend, Path(config.store), self.happened, log, puller(config, log), config.trusted_keys,
            self._is_urgent,
        )  # fmt: skip
        emulation = config.emulation
        self._links = Links(
            config.id, self.instance, self.happened, time.monotonic,
            LinkOptions(
                message_bytes_max=config.limits.tensor_bytes_max,
                rate_bytes_per_s=emulation.link_rate_bytes_per_s, delay_s=emulation.link_delay_s,
            ),
        )  # fmt: skip
        self._links.log = log
        self._probes = Probes(config.probe, self._links)
        self._links.on_probe = self._probes.heard
        will = Will(self._topics.device(config.id, "state"), b"offline")
        self._mqtt = Connection(
            config.broker, f"pamdi-{config.id}", self.heard, self._mqtt_connected, will, log
        )  # fmt: skip
        self._urgent = Connection(
            config.broker, f"pamdi-{config.id}-urgent", self.heard, lambda: self._plane.connected()
        )  # fmt: skip
        self._mqtt.on_contested = self._urgent.on_contested = claim.contest
        self._lanes = Lanes(self._mqtt, self._urgent, self._topics)
        self._plane = BrokerPlane(
            config.id, self._topics, self._mqtt, self._urgent, self._links.tunnels, self._is_urgent
        )  # fmt: skip
        self._links.over_broker = self._plane.carry
        self._peers_watched: "set[str]" = set()
        self._door.doers = self._make_doers()

    @property
    def epoch(self) -> int:
        """Of the allocation in force; 0 before there is one."""
        allocation = self._device.context.allocation
        return allocation.epoch if allocation is not None else 0

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until stopped. Raises PamdiError for what a person must mend before anything can work."""
        await self._links.listen(self.config.listen.host, self.config.listen.port)
        restored = self._journal.restore()
        self._journal.start()
        if restored.open or restored.final:
            self._log(f"journal: {len(restored.open)} open works, {len(restored.final)} ends are remembered")
        self.happened(restored)
        kept = self._kept.read()
        if kept is not None:
            self.happened(ev.AllocationReceived(kept))
        self._subscribe()
        self._notifier.status("waiting for the broker")
        try:
            await run_together(
                {
                    "broker": self._mqtt.run(),
                    "urgent results": self._urgent.run(),
                    "links": self._links.run(),
                    "ready": self._say_ready(),
                    "stats": self._publish_stats(),
                    "probes": self._probes.run(time.monotonic),
                    "watchdog": feed_watchdog(self._notifier, self._in_hand, self._log),
                    "descriptors": descriptors.watch(self._log, self.counters),
                    "stop": self._until_stopped(),
                }
            )
        finally:
            await self._close()

    def stop(self) -> None:
        """SIGTERM: drain, then end."""
        self._notifier.stopping()
        self._log(f"stopping: draining for at most {self.config.drain_s:g} s")
        self.happened(ev.StopAsked(self.config.drain_s))

    async def _until_stopped(self) -> None:
        await self._stopped
        self._state = "stopped"
        self._mqtt.publish(self._topics.device(self.config.id, "state"), b"stopped", 1, True)
        await self._mqtt.drain(FLUSH_S)
        await self._urgent.drain(FLUSH_S)

    async def _say_ready(self) -> None:
        await self._mqtt.connected.wait()
        self._notifier.ready()
        self._log(f"device {self.config.id} is ready, peers connect to port {self._links.port}")
        while True:
            self._notifier.status(self._stats.sentence(self._device))
            await asyncio.sleep(5.0)

    def _in_hand(self) -> InHand:
        compute, now = self._device.hops.compute, time.monotonic()
        running_s = None if compute.running is None else now - compute.started_at
        return InHand(running_s, compute.run_s(), self._engines.loading_s(now), self._journal.alive())

    async def _publish_stats(self) -> None:
        while True:
            await asyncio.sleep(self.config.stats_every_s)
            document = self._stats.document(self._device, self.counters, self._engines, self._links, describe_host())
            document["probes"] = self._probes.document()
            document["network"] = {
                **self._links.totals(), "envelopes_unreadable": self._plane.unreadable,
                "messages_dropped": self._mqtt.overflows + self._urgent.overflows,
                "messages_not_accepted": self._mqtt.refusals + self._urgent.refusals,
            }  # fmt: skip
            self._mqtt.publish(self._topics.device(self.config.id, "stats"), msgspec.json.encode(document), 0, True)

    async def _close(self) -> None:
        await self._links.close(FLUSH_S)
        self._engines.close()
        self._door.close()
        self._notifier.close()
        await self._loop.run_in_executor(None, self._journal.stop)

    # -- events in -------------------------------------------------------------------------------------------------

    def _subscribe(self) -> None:
        me, topics = self.config.id, self._topics
        for leaf in ("allocation/set", "state", "alive/ask"):
            self._mqtt.subscribe(topics.device(me, leaf))
        if self.config.data_plane == "mqtt":
            self._plane.listen()

    def _mqtt_connected(self) -> None:
        self._claim.up.set()
        self._plane.connected()
        me, topics = self.config.id, self._topics
        info = device_info(self.config, self.instance, self._links.port, self._backend, self._log)
        publish = self._mqtt.publish
        publish(topics.device(me, "state"), self._state.encode(), 1, True)
        publish(topics.device(me, "info"), msgspec.json.encode(info), 1, True)
        state = self._device.slots.state()
        publish(topics.device(me, "allocation/state"), msgspec.json.encode(state), 1, True)

    def heard(self, topic: str, payload: bytes, retained: bool) -> None:
        """A message from the broker. Whatever it is, it is understood, or counted and told in one line."""
        parsed = self._topics.parse(topic)
        if parsed is None:
            return
        try:
            self._understand(parsed, payload)
        except (BadInput, msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: a struct's own check
            self.counters["payloads_unreadable"] += 1
            self._log(f"{topic}: {error}")

    def _understand(self, topic: Topic, payload: bytes) -> None:
        if topic.kind == "source" and topic.leaf == "submit":
            self._submitted(topic.id, payload)
        elif topic.kind == "source" and topic.leaf == "cancel":
            self.happened(ev.CancelAsked(WorkId(topic.id, read_command(payload).id)))
        elif topic.leaf == "allocation/set" and payload:
            allocation = msgspec.json.decode(payload, type=DeviceAllocation)
            self._kept.keep(payload)
            self.happened(ev.AllocationReceived(allocation))
        elif topic.leaf == "alive/ask" and self._claim.holds:
            self._mqtt.publish(self._topics.device(self.config.id, "alive/tell"), str(self.instance).encode(), 1)
        elif topic.leaf.startswith("frames/"):
            self._plane.received(payload)
        elif topic.leaf == "state":
            self._state_heard(topic.id, payload.decode())

    def _state_heard(self, id: str, state: str) -> None:
        if id != self.config.id:
            self.happened(ev.PeerState(id, state))
        elif state != self._state:  # our own will, published after we came back
            self._mqtt.publish(self._topics.device(id, "state"), self._state.encode(), 1, True)

    def _submitted(self, source: str, payload: bytes) -> None:
        try:
            submission = read_submission(payload, self.config.limits.submit_bytes_max)
            spec = self._device.context.sources.get(source)
            if spec is not None and spec.model in self._device.context.models:
                check_inputs(submission.inputs, self._device.context.models[spec.model])
        except BadInput as error:
            self.counters["submissions_unreadable"] += 1
            id = id_of(payload)
            if id is not None:
                refused = ResultJson(id, "refused", error.reason.value, error.detail)
                self._publish_result(source, refused, 0.0, None)
            return
        work = WorkId(source, submission.id)
        self.happened(
            ev.Submitted(
                work, submission.digest, submission.inputs, submission.nbytes, submission.gamma, submission.deadline_s
            )  # fmt: skip
        )

    # -- instructions out ------------------------------------------------------------------------------------------

    def _make_doers(self) -> Dict[Type[Any], Callable[[Any], None]]:
        return {
            ins.Send: self._send,
            ins.Infer: lambda i: self._engines.infer(i, self._device.leaves()),
            ins.InferTogether: lambda i: self._engines.infer_together(i, self._device.leaves()),
            ins.Load: self._engines.load,
            ins.Unload: self._engines.unload,
            ins.JournalOpen: self._journal.put,
            ins.JournalAttempt: self._journal.put,
            ins.JournalFinal: self._journal.put,
            ins.JournalForget: self._journal.put,
            ins.PublishResult: self._result,
            ins.PublishAllocation: self._allocation_state,
            ins.PublishBeacon: self._beacon,
            ins.SetNeighbours: self._neighbours,
            ins.Note: self._note,
            ins.Stopped: self._stop_now,
        }

    def _send(self, i: ins.Send) -> None:
        self._links.send(i.peer, i.message, i.payload, i.urgency)

    def _result(self, i: ins.PublishResult) -> None:
        outputs = tensors_json(i.payload) if i.payload is not None else {}
        result = ResultJson(
            i.work.id, i.status, i.reason, i.detail, i.latency_s, i.retry_after_s, i.replayed, i.retried, outputs,
            i.path,
        )  # fmt: skip
        done = (lambda: self._told(i.work)) if i.acknowledge else None
        self._publish_result(i.work.source, result, i.urgency, done)
        if i.status in ("answered", "failed") and i.latency_s is not None:
            self._stats.ended(i.urgency, i.status, i.latency_s)

    def _publish_result(
        self, source: str, result: ResultJson, urgency: float, done: Optional[Callable[[], None]]
    ) -> None:
        """Results above the lowest class have a connection of their own: a large normal answer delays no urgent one."""
        connection = self._urgent if self._is_urgent(urgency) else self._mqtt
        topic, payload = self._topics.source(source, "result"), msgspec.json.encode(result)
        connection.publish(topic, payload, 1, False, done, self._result_not_accepted)

    def _result_not_accepted(self, line: str) -> None:
        """By the broker: an end that nobody has heard is not delivered, and is said again when it is asked for."""
        self.counters["results_not_accepted"] += 1
        if self.counters["results_not_accepted"] == 1:
            self._log(line)

    def _told(self, work: WorkId) -> None:
        self._journal.put(work)
        self.happened(ev.ResultDelivered(work))

    def _allocation_state(self, i: ins.PublishAllocation) -> None:
        topic = self._topics.device(self.config.id, "allocation/state")
        if self._mqtt.connected.is_set():
            self._mqtt.publish(topic, msgspec.json.encode(i.state), 1, True)

    def _beacon(self, i: ins.PublishBeacon) -> None:
        self._mqtt.publish(self._topics.device(self.config.id, "beacon"), self._stats.beacon(i.beacon), 0)

    def _neighbours(self, i: ins.SetNeighbours) -> None:
        if any(neighbour.plane == "mqtt" for neighbour in i.neighbours):
            self._plane.listen()
        self._links.set_neighbours(i.neighbours)
        for neighbour in i.neighbours:
            if neighbour.id not in self._peers_watched:
                self._peers_watched.add(neighbour.id)
                self._mqtt.subscribe(self._topics.device(neighbour.id, "state"))
        allocation = self._device.context.allocation
        sources = allocation.sources if allocation is not None else ()
        self._lanes.obey({s.id: self._is_urgent(s.urgency()) for s in sources if s.device == self.config.id})
        if self._paced is not None and allocation is not None:
            speed = self.config.emulation.speed
            self._paced.seconds = {r.segment: r.seconds * speed for r in allocation.segments}

    def _is_urgent(self, urgency: float) -> bool:
        return urgency > min((s.urgency() for s in self._device.context.sources.values()), default=urgency)

    def _note(self, i: ins.Note) -> None:
        self.counters[i.counter] += 1
        if i.text:
            self._log(i.text)

    def _stop_now(self, i: ins.Stopped) -> None:
        self._log(f"drained; {i.left} works are left to the journal and to others" if i.left else "drained")
        if not self._stopped.done():
            self._stopped.set_result(None)
