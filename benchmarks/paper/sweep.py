"""One point of the comparison, and many of them: a setting, a policy, a load, a seed, in the simulator.

Load 1.0 is what MS-MDI gets through when every source has all of its works waiting (works of all sources / the time
until the last is answered): a load that the paper's baseline can just carry, whatever the bottleneck is. Sources have
equal rates. "Saturation" is that very run: 100 works of every source as good as at once, within about a tenth of a
second, in random order. (Were all submitted at the very same instant, who is older than whom would be decided by the
sources' names, and MS-MDI would serve the urgent one last.) Same seed, same arrivals, for every policy.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence

import msgspec

from pamdi.simulator.faults import plan_faults
from pamdi.simulator.report import run_of
from pamdi.simulator.run import PATIENCE_S
from pamdi.simulator.scenario import ArrivalsEntry, Scenario
from pamdi.simulator.world import World

WORKS = 100  # per source, as in the published demo
BURST_HZ = 1000.0  # of each source, at saturation


class Point(NamedTuple):
    """``total_hz``: works per second of all sources together; None: all as good as at once, at ``load`` None.
    ``only``: of the sources, the first alone. ``works``: per source."""

    setting: str
    scenario: Scenario
    policy: str
    load: Optional[float]
    seed: int
    total_hz: Optional[float] = None
    only: bool = False
    works: int = WORKS


class Source(NamedTuple):
    """What became of one source at one point; seconds and works per second. ``ended``: works answered, and
    ``throughput_hz``: per second from the first submission until the source's own last answer."""

    mean_s: float
    p99_s: float
    throughput_hz: float
    ended: int


class Row(NamedTuple):
    """``span_s``: until the last answer. Shares of it: ``busiest`` device, ``devices`` on average, the busiest
    ``radio`` channel or link."""

    setting: str
    policy: str
    load: Optional[float]
    seed: int
    only: bool
    sources: Dict[str, Source]
    span_s: float
    events: int
    busiest: float = 0.0
    devices: float = 0.0
    radio: float = 0.0


def loaded(scenario: Scenario, total_hz: Optional[float], only: bool = False, works: int = WORKS) -> Scenario:
    """``scenario`` with its arrivals: Poisson at equal rates. Alone, the first source keeps the rate that it has among
    the others."""
    sources = scenario.source[:1] if only else scenario.source
    if total_hz is None:
        arrivals = [ArrivalsEntry(s.id, rate_hz=BURST_HZ, count=works) for s in sources]
        return msgspec.structs.replace(scenario, arrivals=arrivals)
    rate_hz = total_hz / len(scenario.source)
    return msgspec.structs.replace(
        scenario,
        source=[msgspec.structs.replace(s, rate_hz=rate_hz) for s in scenario.source],
        arrivals=[ArrivalsEntry(s.id, rate_hz=rate_hz, count=works) for s in sources],
    )


def measure(point: Point) -> Row:
    scenario = loaded(point.scenario, point.total_hz, point.only, point.works)
    world = World(scenario, point.policy, point.seed)
    plan_faults(world)
    world.run(PATIENCE_S)
    run = run_of(world)
    sources = {
        id: Source(f.mean_s or float("inf"), f.p99_s or float("inf"), f.throughput_hz or 0.0, f.answered)
        for id, f in run.sources.items()
    }
    used = run.devices.values()
    radio = max([*run.media.values(), *run.links.values()], default=0.0)
    return Row(
        point.setting, point.policy, point.load, point.seed, point.only, sources, run.span_s, run.events,
        max(used), sum(used) / len(used), radio,
    )  # fmt: skip


def measure_all(points: Sequence[Point], processes: int = 2) -> List[Row]:
    """In the order of ``points``, whatever ends first."""
    workers = min(processes, os.cpu_count() or 1)
    if workers < 2:
        return [measure(point) for point in points]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(measure, points, chunksize=4))


def capacity_hz(rows: Iterable[Row]) -> float:
    """Of saturated runs of one setting: works per second, over all of them."""
    works, seconds = 0, 0.0
    for row in rows:
        works += sum(source.ended for source in row.sources.values())
        seconds += row.span_s
    return works / seconds
