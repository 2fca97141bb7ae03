"""What the device counts, as one JSON document a minute: people and dashboards read it, nothing depends on it."""

from collections import deque
from typing import Any, Deque, Dict, Mapping

import msgspec

from pamdi.core.device import Device
from pamdi.core.messages import Beacon
from pamdi.daemon.host import Host

LATENCIES_MAX = 1000
CLASSES_MAX = 32  # clients choose gamma, and may choose another for every work; the class that ended last stays


class Stats:
    def __init__(self, host: Host) -> None:
        self._latencies: Dict[float, Deque[float]] = {}
        self._host = host

    def ended(self, urgency: float, status: str, latency_s: float) -> None:
        if status == "answered":
            latencies = self._latencies.pop(urgency, None) or deque(maxlen=LATENCIES_MAX)
            latencies.append(latency_s)
            self._latencies[urgency] = latencies
            if len(self._latencies) > CLASSES_MAX:
                del self._latencies[next(iter(self._latencies))]

    def sentence(self, device: Device) -> str:
        ready = len(device.slots.ready())
        return f"{ready} segments ready, {device.head.open_count()} works open, {len(device.holdings)} held"

    def beacon(self, beacon: Beacon) -> bytes:
        """As it goes to the broker, with the hottest sensor as of the last document: on a Jetson reading one takes
        milliseconds, which urgent works would wait for."""
        hottest_c = max(self._host.temperatures_c.values(), default=None)
        return msgspec.json.encode({**msgspec.to_builtins(beacon), "temperature_c": hottest_c})

    def document(
        self, device: Device, counters: Mapping[str, int], engines: Any, links: Any, host: Host
    ) -> Dict[str, Any]:
        """``null`` where a reading is unavailable."""
        self._host = host
        queued: Dict[str, int] = {}
        for held in device.hops.compute.queued():
            queued[str(held.urgency)] = queued.get(str(held.urgency), 0) + 1
        return {
            "counters": dict(counters),
            "latency_s": {str(k): _summary(sorted(v)) for k, v in self._latencies.items()},
            "queued_works": queued,
            "open_works": device.head.open_count(),
            "held_works": len(device.holdings),
            "executor_busy_s": round(engines.busy_s, 3),
            "executor_runs": engines.runs,
            "executor": engines.counters(),
            "links": links.counters(),
            "memory_bytes": host.memory_bytes,
            "memory_available_bytes": host.memory_available_bytes,
            "temperatures_c": host.temperatures_c or None,
            "power_mode": host.power_mode,
            "power_w": host.power_w or None,
        }


def _summary(ordered: "list[float]") -> Dict[str, float]:
    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 6)

    return {"count": len(ordered), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99)}
