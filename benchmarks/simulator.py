"""How fast the simulator is, beside a bare heap loop in the same run; and how long a large fleet takes.

    python -m benchmarks.simulator [--simulated 60] [--no-fleet] [--json]

Goals: 100,000 heap events a second on one core with five devices; 1,000 devices (16 links each) and 200 sources for 60
simulated seconds in under two minutes. Seconds are of this process's CPU, so that others on the machine do not count.
"""

import argparse
import json
import platform
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple
from unittest.mock import patch

from pamdi.controller.fleet import DeviceEntry, LinkEntry, ModelEntry, SourceEntry
from pamdi.core import events as ev
from pamdi.core.device import Device
from pamdi.core.instructions import AnyInstruction
from pamdi.simulator.heap import Heap
from pamdi.simulator.report import run_of
from pamdi.simulator.run import run_world
from pamdi.simulator.scenario import ArrivalsEntry, RunEntry, Scenario, read_scenario
from pamdi.simulator.world import World

DEMO = Path(__file__).resolve().parents[1] / "examples" / "demo.scenario.toml"
EVENTS_GOAL_HZ, FLEET_GOAL_S = 100_000.0, 120.0
DEVICES, SOURCES, LINKS = 1000, 200, 16
KINDS = 6  # of events, the dearest ones: as many are printed
BARE_EVENTS, BARE_WAITING = 500_000, 200


class Kind(NamedTuple):
    """Events of one kind: how many, what each costs in the core, and their share of the whole run."""

    name: str
    events: int
    microseconds: float
    share: float


def bare_heap_hz() -> float:
    """Events a second of the same heap when nothing happens in them: each puts the next one."""
    heap, drawn = Heap(), random.Random(1)
    delays = [drawn.random() for _ in range(1024)]

    def nothing(i: int) -> None:
        heap.put(heap.now + delays[i & 1023], nothing, i + 1)

    for i in range(BARE_WAITING):
        heap.put(delays[i], nothing, i)
    began = time.process_time()
    heap.run(float("inf"), lambda: heap.pops >= BARE_EVENTS)
    return heap.pops / (time.process_time() - began)


def five_devices() -> Dict[str, Any]:
    """Events a second of the demo's scenario (the best of three runs), how many events that are, and what they cost in
    the core."""
    scenario = read_scenario(DEMO)
    run_world(scenario, "pa-mdi", 1)  # once, so that nothing is imported or compiled while the clock runs
    rate_hz, events = 0.0, 0
    for _ in range(3):
        began = time.process_time()
        events = run_world(scenario, "pa-mdi", 1).heap.pops
        rate_hz = max(rate_hz, events / (time.process_time() - began))
    kinds = _core_costs(scenario, events / rate_hz)
    share = sum(kind.share for kind in kinds)
    return {"five_devices_hz": rate_hz, "events": events, "core_share": share, "kinds": kinds}


def _core_costs(scenario: Scenario, run_s: float) -> List[Kind]:
    """What each kind of event costs in the core, the dearest first: its share of a run with a stopwatch, which others
    on the machine may have made longer, applied to the ``run_s`` that a run takes."""
    handle, clock = Device.handle, time.perf_counter
    counts: Dict[str, int] = {}
    seconds: Dict[str, float] = {}

    def timed(device: Device, event: ev.AnyEvent, now: float) -> List[AnyInstruction]:
        began = clock()
        said = handle(device, event, now)
        took = clock() - began
        kind = type(event.message if isinstance(event, ev.Received) else event).__name__
        counts[kind] = counts.get(kind, 0) + 1
        seconds[kind] = seconds.get(kind, 0.0) + took
        return said

    with patch.object(Device, "handle", timed):
        began = clock()
        run_world(scenario, "pa-mdi", 1)
        whole_s = clock() - began
    kinds = []
    for name, n in counts.items():
        share = seconds[name] / whole_s
        kinds.append(Kind(name, n, 1e6 * share * run_s / n, share))
    return sorted(kinds, key=lambda kind: -kind.share)


def large_fleet(simulated_s: float) -> Scenario:
    """A ring in which each device has links to the eight on either side; works of 200 ms, one a second per source."""
    ids = [f"n{i:04d}" for i in range(DEVICES)]
    reach = range(1, LINKS // 2 + 1)
    links = [LinkEntry(ids[i], ids[(i + k) % DEVICES], 12.5e6, 0.001) for i in range(DEVICES) for k in reach]
    sizes = [12288, 65536, 65536, 32768, 32768, 32768, 16384, 16384, 40]
    model = ModelEntry("resnet56", [str(u) for u in range(8)], sizes, [1000] * 8, {"board": [0.025] * 8})
    heads = ids[:: DEVICES // SOURCES]
    sources = [
        SourceEntry(f"s{i:03d}", "resnet56", head, gamma=10.0 if i % 2 else 1.0) for i, head in enumerate(heads)
    ]  # fmt: skip
    return Scenario(
        device=[DeviceEntry(id, "board", 8000) for id in ids],
        link=links,
        model=[model],
        source=sources,
        run=RunEntry(jitter=0.02, duration_s=simulated_s),
        arrivals=[ArrivalsEntry(source.id) for source in sources],
    )


def fleet_figures(simulated_s: float) -> Dict[str, float]:
    began = time.process_time()
    world = World(large_fleet(simulated_s), "pa-mdi", 1)
    world.run(0.0)
    seconds = time.process_time() - began
    run = run_of(world)
    return {
        "simulated_s": simulated_s,
        "seconds": seconds,
        "events": world.heap.pops,
        "events_per_second": world.heap.pops / seconds,
        "works": sum(figures.count for figures in run.sources.values()),
        "answered": sum(figures.answered for figures in run.sources.values()),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure(simulated_s: float, fleet: bool) -> Dict[str, Any]:
    bare_hz = bare_heap_hz()
    figures: Dict[str, Any] = {"python": platform.python_version(), "bare_heap_hz": bare_hz, **five_devices()}
    figures["bare_to_simulated"] = bare_hz / figures["five_devices_hz"]
    if fleet:
        figures["fleet"] = fleet_figures(simulated_s)
    return figures


def lines_of(figures: Dict[str, Any]) -> List[str]:
    rate_hz, share = figures["five_devices_hz"], figures["core_share"]
    lines = [
        f"{_word(rate_hz >= EVENTS_GOAL_HZ)} five devices: {rate_hz:.0f} events a second >= {EVENTS_GOAL_HZ:.0f} "
        f"(Python {figures['python']})",
        f"       a bare heap loop does {figures['bare_heap_hz']:.0f}: {figures['bare_to_simulated']:.1f} x as many",
        f"       of {1e6 / rate_hz:.1f} us per event the core takes {share:.0%}; the rest is the simulator's",
        *(
            f"       {kind.name}: {kind.events}, {kind.microseconds:.1f} us in the core each, {kind.share:.0%} of all"
            for kind in figures["kinds"][:KINDS]
        ),
    ]
    fleet = figures.get("fleet")
    if fleet:
        goal_s = FLEET_GOAL_S * fleet["simulated_s"] / 60
        lines += [
            f"{_word(fleet['seconds'] <= goal_s)} {DEVICES} devices, {SOURCES} sources, {fleet['simulated_s']:g} "
            f"simulated seconds: {fleet['seconds']:.0f} s <= {goal_s:.0f} s",
            f"       {fleet['events']} events ({fleet['events_per_second']:.0f} a second), {fleet['answered']} of "
            f"{fleet['works']} works answered, peak memory {fleet['peak_mib']:.0f} MiB",
        ]
    return lines


def _word(holds: bool) -> str:
    return "holds " if holds else "BROKEN"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", type=float, default=60.0, metavar="S", help="seconds of the large fleet (60)")
    parser.add_argument("--no-fleet", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments.simulated, not arguments.no_fleet)
    lines = lines_of(figures)
    print(json.dumps(figures, indent=1) if arguments.json else "\n".join(lines))
    return 1 if any(line.startswith("BROKEN") for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
