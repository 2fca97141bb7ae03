"""Random worlds from a seed: loads, crashes, partitions, reallocations. The same seed is the same run."""

import random
from typing import Dict, List, Optional

from pamdi.core.allocation import SourceSpec
from tests.core.world import Settings, World

WORKS = 40


def random_residents(drawn: random.Random, devices: int, units: int) -> Dict[str, List[int]]:
    """Two thirds of the units on each device, and every unit on at least two."""
    names = [f"d{i}" for i in range(devices)]
    held = {name: set(drawn.sample(range(units), max(1, units * 2 // 3))) for name in names}
    for unit in range(units):
        while sum(unit in units_of for units_of in held.values()) < 2:
            held[drawn.choice(names)].add(unit)
    return {name: sorted(units_of) for name, units_of in held.items()}


def run_seed(seed: int) -> World:
    """One random world, run to rest. Every invariant of ``World`` is checked on the way."""
    drawn = random.Random(seed)
    devices, units = drawn.choice([2, 3, 4, 5]), drawn.choice([1, 3, 4, 8])
    residents: Optional[Dict[str, List[int]]] = None
    if drawn.random() < 0.5 and devices >= 3:
        residents = random_residents(drawn, devices, units)
    sources = [
        SourceSpec("gate", "net", "d0", gamma=10.0, attempts_max=50),
        SourceSpec("yard", "net", "d1", attempts_max=50, age_s_max=drawn.choice([None, 0.5])),
    ]
    policy = drawn.choice(["pa-mdi", "pa-mdi", "ms-mdi", "pa-mdi-pairwise"])
    unit_s = drawn.choice([0.005, 0.025])
    world = World(Settings(devices, units, unit_s, policy=policy, residents=residents, sources=sources), seed)
    world.run(0.3)
    rate_hz = 0.35 * devices / (units * unit_s)
    for source in ("gate", "yard"):
        at = 0.3
        for i in range(WORKS):
            at += drawn.expovariate(rate_hz)
            world.at(at, lambda source=source, i=i: world.submit(source, str(i)))  # type: ignore[misc]
    span_s = WORKS / rate_hz
    for _ in range(drawn.randrange(6)):
        plan_fault(world, drawn, 0.3 + drawn.random() * span_s, residents)
    world.run(0.3 + span_s + 120)
    world.check_ends()
    other = {work: record.ends for work, record in world.records.items() if record.ends[0][0] != "answered"}
    assert not other, f"seed {seed}: ended otherwise: {other}"
    return world


def plan_fault(world: World, drawn: random.Random, at: float, residents: Optional[Dict[str, List[int]]]) -> None:
    names = world.settings.devices
    kind = drawn.choice(["crash", "crash", "partition", "reallocate"])
    if kind == "crash":
        device = drawn.choice(names)
        world.at(at, lambda: world.crash(device))
        world.at(at + drawn.uniform(0.1, 4), lambda: None if device in world.devices else world.start(device))
    elif kind == "partition":
        a, b = drawn.sample(names, 2)
        world.at(at, lambda: world.partition(a, b))
        world.at(at + drawn.uniform(0.1, 4), lambda: world.heal(a, b))
    elif residents is not None:
        everything = {name: list(range(world.settings.units)) for name in names}
        world.at(at, lambda: world.reallocate(everything))
        world.at(at + 1, lambda: world.reallocate(residents))
