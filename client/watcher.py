"""The fleet as its retained topics tell it, kept up to date: for the live view, ``pamdi status`` and tests."""

import asyncio
import contextlib
import uuid
from typing import Any, Dict, List, Optional

import msgspec

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.device_stats import DeviceStats
from pamdi.client.loops import end
from pamdi.client.mqtt import Connection
from pamdi.core.allocation import SMALL_FLEET_DEVICES_MAX, AllocationState, DeviceAllocation, DeviceInfo, SourceSpec
from pamdi.core.messages import Beacon
from pamdi.core.topics import Topics

REPORTS_MAX = 1000


class _Report(msgspec.Struct):
    id: str
    said: str


class Watcher:
    """``start`` it in a running loop; read the dicts at any time."""

    def __init__(self, broker: BrokerConfig) -> None:
        self._topics = Topics(broker.prefix)
        self._broker = broker
        self._task: Optional["asyncio.Task[None]"] = None
        self.mqtt: Optional[Connection] = None
        self.controller = "unknown"
        self.states: Dict[str, str] = {}
        self.infos: Dict[str, DeviceInfo] = {}
        self.wanted: Dict[str, DeviceAllocation] = {}
        self.held: Dict[str, AllocationState] = {}
        self.beacons: Dict[str, Beacon] = {}
        self.sources: Dict[str, SourceSpec] = {}
        self.stats: Dict[str, DeviceStats] = {}
        self.reports: Dict[str, str] = {}

    async def start(self) -> None:
        self.mqtt = Connection(self._broker, f"pamdi-watch-{uuid.uuid4().hex[:8]}", self._message)
        for leaf in ("state", "info", "allocation/set", "allocation/state", "beacon", "stats"):
            self.mqtt.subscribe(self._topics.device("+", leaf))
        self.mqtt.subscribe(self._topics.source("+", "config"))
        for leaf in ("state", "report"):
            self.mqtt.subscribe(self._topics.controller(leaf))
        self._task = asyncio.get_running_loop().create_task(self.mqtt.run())

    async def stop(self) -> None:
        if self._task is not None:
            await end([self._task])

    def settled(self, devices: List[str], policy: str, sources: List[str]) -> bool:
        """Whether every device holds what the newest epoch wants of it, for these sources under this policy. In a fleet
        that is not small: what it was last told."""
        epochs = {self.wanted[d].epoch for d in devices if d in self.wanted}
        together = len(epochs) == 1 or len(self.wanted) > SMALL_FLEET_DEVICES_MAX
        return together and all(self._settled(device, policy, sources) for device in devices)

    def admits(self, head: str, source: str) -> bool:
        """Whether the head of ``source`` obeys an epoch that knows it."""
        wanted, held = self.wanted.get(head), self.held.get(head)
        known = wanted is not None and source in {s.id for s in wanted.sources}
        return known and held is not None and wanted is not None and held.epoch >= wanted.epoch

    def _settled(self, device: str, policy: str, sources: List[str]) -> bool:
        wanted, held = self.wanted.get(device), self.held.get(device)
        if wanted is None or held is None or self.states.get(device) != "online":
            return False
        right = wanted.policy == policy and {s.id for s in wanted.sources} == set(sources)
        ready = {(s.model, s.first, s.stop) for s in held.segments if s.state == "ready"}
        asked = {(s.model, s.first, s.stop) for s in wanted.segments}
        return right and held.epoch == wanted.epoch and ready == asked and bool(asked)

    def _message(self, topic: str, payload: bytes, retained: bool) -> None:
        parsed = self._topics.parse(topic)
        if parsed is None:
            return
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._keep(parsed.kind, parsed.id, parsed.leaf, payload)

    def _keep(self, kind: str, id: str, leaf: str, payload: bytes) -> None:
        tables: Dict[str, Any] = {
            "info": (self.infos, DeviceInfo), "allocation/set": (self.wanted, DeviceAllocation),
            "allocation/state": (self.held, AllocationState), "beacon": (self.beacons, Beacon),
            "config": (self.sources, SourceSpec), "stats": (self.stats, DeviceStats),
        }  # fmt: skip
        if leaf == "report":
            report = msgspec.json.decode(payload, type=_Report)
            self.reports[report.id] = report.said
            if len(self.reports) > REPORTS_MAX:
                del self.reports[next(iter(self.reports))]
        elif kind == "controller":
            self.controller = payload.decode()
        elif leaf == "state":
            self.states[id] = payload.decode()
        elif leaf in tables:
            table, type = tables[leaf]
            if payload:
                table[id] = msgspec.json.decode(payload, type=type)
            else:
                table.pop(id, None)
