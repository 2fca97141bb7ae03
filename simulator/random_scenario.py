"""A scenario from a number: fleets, loads, bounds and faults that nobody chose. The same number is the same scenario.

What is drawn is meant to be survived: every unit stays on two devices that are not taken away, whatever crashes comes
back, whatever is cut is mended. Bounds are often far too small and links often too slow, since it is at the bounds that
promises break.
"""

import random
from typing import Dict, List, Optional

from pamdi.controller.fleet import DeviceEntry, LinkEntry, MeshEntry, ModelEntry, SourceEntry
from pamdi.core.limits import Limits
from pamdi.core.policy import POLICIES
from pamdi.simulator.scenario import ArrivalsEntry, FaultEntry, RunEntry, Scenario

BOUND_TO_PLACES = frozenset({"ar-mdi", "ddi", "local"})  # these wait for their device, and need it whole
WORKS_MAX = 30
DOWN_S_MAX = 4.0


def random_scenario(seed: int) -> Scenario:
    drawn = random.Random(f"scenario/{seed}")
    devices, units = drawn.choice([2, 3, 3, 4, 5]), drawn.choice([1, 2, 4, 6])
    free = [name for name in POLICIES if name not in BOUND_TO_PLACES]
    policy = drawn.choice([*free, "pa-mdi", "pa-mdi", *sorted(BOUND_TO_PLACES)])
    unit_s, nbytes = drawn.choice([0.005, 0.025]), drawn.choice([200, 20_000, 150_000])
    ids = [f"d{i}" for i in range(devices)]
    sources = _sources(drawn, ids)
    rate_hz = drawn.uniform(0.2, 1.1) * devices / (units * unit_s) / len(sources)
    arrivals = [_arrivals(drawn, source.id, rate_hz) for source in sources]
    span_s = max((entry.count or 0) / rate_hz + entry.start_s for entry in arrivals)
    faults = [_fault(drawn, ids, drawn.uniform(0.0, span_s)) for _ in range(drawn.randrange(7))]
    if policy in BOUND_TO_PLACES:
        faults = [fault for fault in faults if fault.kind != "drain"]
    else:
        faults += _partial_residents(drawn, ids, units)
    meshed = drawn.random() < 0.75
    rate = drawn.choice([2.5e6, 2.5e6, 2e5 if nbytes <= 20_000 else 1e6])
    return Scenario(
        device=[DeviceEntry(id, "board", 10**9) for id in ids],
        link=[] if meshed else _chain(drawn, ids, rate),
        mesh=[MeshEntry("all", rate, 0.002, medium=drawn.choice([None, None, "air"]))] if meshed else [],
        model=[ModelEntry("net", [str(u) for u in range(units)], [*[nbytes] * units, 40], [1] * units,
                          {"board": [unit_s] * units})],
        source=sources,
        run=RunEntry(
            seed=seed, policies=[policy], jitter=drawn.choice([0.0, 0.02, 0.3]), limits=_limits(drawn),
            load_s=drawn.choice([0.0, 0.1]), journal_s=drawn.choice([0.0005, 0.02]),
            submit_s=drawn.choice([0.001, 0.05]), silent_s=drawn.choice([0.2, 2.0]),
        ),
        arrivals=arrivals,
        fault=faults,
    )  # fmt: skip


def _sources(drawn: random.Random, ids: List[str]) -> List[SourceEntry]:
    patience: List[Optional[float]] = [None, None, 0.5]
    both = [
        SourceEntry("gate", "net", ids[0], gamma=10.0, attempts_max=50, replay_after_s=drawn.choice([1.0, 5.0])),
        SourceEntry("yard", "net", ids[1], attempts_max=50, age_s_max=drawn.choice(patience)),
    ]
    if drawn.random() < 0.3:
        late: List[Optional[float]] = [None, 0.3]
        both.append(SourceEntry("dock", "net", drawn.choice(ids), attempts_max=50, deadline_s=drawn.choice(late)))
    return both


def _arrivals(drawn: random.Random, source: str, rate_hz: float) -> ArrivalsEntry:
    kind = drawn.choice(["poisson", "poisson", "periodic", "backlog"])
    count, window = drawn.randrange(4, WORKS_MAX), drawn.randrange(1, 9)
    window = window if kind == "backlog" else 1
    return ArrivalsEntry(source, kind, rate_hz, count, window, drawn.choice([0.0, 0.0, 0.3]))


def _fault(drawn: random.Random, ids: List[str], at_s: float) -> FaultEntry:
    device, for_s = drawn.choice(ids), drawn.uniform(0.05, DOWN_S_MAX)
    kind = drawn.choice(["crash", "crash", "crash", "restart", "partition", "partition", "slow", "link_rate", "drain"])
    others = [id for id in ids if id != device]
    if kind == "partition":
        return FaultEntry(at_s, device, kind, with_=drawn.sample(others, drawn.randrange(1, len(ids))), for_s=for_s)
    factor = {"slow": drawn.choice([3.0, 40.0]), "link_rate": drawn.choice([0.02, 0.3])}.get(kind, 1.0)
    return FaultEntry(at_s, device, kind, factor=factor, for_s=for_s)


def _partial_residents(drawn: random.Random, ids: List[str], units: int) -> List[FaultEntry]:
    """Half of the time each device holds a part, every unit being on two at least; some change it on the way."""
    if drawn.random() < 0.5 or len(ids) < 3:
        return []
    held: Dict[str, List[int]] = {id: drawn.sample(range(units), max(1, units * 2 // 3)) for id in ids}
    for unit in range(units):
        while sum(unit in some for some in held.values()) < 2:
            held[drawn.choice([id for id in ids if unit not in held[id]])].append(unit)
    for_s = drawn.choice([None, None, 1.0])
    return [FaultEntry(0.0, id, "reallocate", units=sorted(some), for_s=for_s) for id, some in held.items()]


def _chain(drawn: random.Random, ids: List[str], rate: float) -> List[LinkEntry]:
    """A line, with a link across here and there: most talk over others."""
    links = [LinkEntry(a, b, rate, 0.002) for a, b in zip(ids, ids[1:])]
    return links + ([LinkEntry(ids[0], ids[-1], rate, 0.01)] if len(ids) > 3 and drawn.random() < 0.5 else [])


def _limits(drawn: random.Random) -> Limits:
    if drawn.random() < 0.3:
        return Limits()
    return Limits(
        works_ahead_max=drawn.choice([1, 2, 3]),
        queue_works_max=drawn.choice([2, 16, 64]),
        asks_max=drawn.choice([1, 2, 4]),
        outputs_max=drawn.choice([1, 4]),
        reservation_s=drawn.choice([0.03, 0.5, 1.0]),
        parked_max=drawn.choice([1, 64]),
        parked_s=drawn.choice([0.05, 0.5]),
        ask_s=drawn.choice([0.1, 1.0]),
        backup_bytes_max=drawn.choice([100_000, 256 * 2**20]),
        dead_s=drawn.choice([0.3, 2.0]),
        finished_batch=drawn.choice([1, 64]),
    )
