"""Random worlds from a seed: loads, crashes, partitions, reallocations, bad weather. The same seed is the same run."""

import random
from typing import Dict, List, Optional

from pamdi.core.allocation import SourceSpec
from pamdi.core.work import WorkId
from tests.core.weather import Weather
from tests.core.world import World
from tests.core.world_settings import Settings

WORKS = 40
CALM_S = 120  # without faults at the end: time for everything to come to rest


def random_residents(drawn: random.Random, devices: int, units: int) -> Dict[str, List[int]]:
    """Two thirds of the units on each device, and every unit on at least two."""
    names = [f"d{i}" for i in range(devices)]
    held = {name: set(drawn.sample(range(units), max(1, units * 2 // 3))) for name in names}
    for unit in range(units):
        while sum(unit in units_of for units_of in held.values()) < 2:
            held[drawn.choice(names)].add(unit)
    return {name: sorted(units_of) for name, units_of in held.items()}


def random_weather(drawn: random.Random, until: float) -> Weather:
    if drawn.random() < 0.4:
        return Weather()
    lost, doubled = drawn.choice([0.0, 0.01, 0.1]), drawn.choice([0.0, 0.02, 0.2])
    return Weather(lost, doubled, drawn.choice([0.0, 0.005, 0.1]), until)


def run_seed(seed: int, batched: bool = False) -> World:
    """One random world, run to rest. Every invariant is checked on the way. ``batched``: engines take several works."""
    drawn = random.Random(seed)
    devices, units = drawn.choice([2, 3, 4, 5]), drawn.choice([1, 3, 4, 8])
    residents: Optional[Dict[str, List[int]]] = None
    if drawn.random() < 0.5 and devices >= 3:
        residents = random_residents(drawn, devices, units)
    sources = [
        SourceSpec("gate", "net", "d0", gamma=10.0, attempts_max=50),
        SourceSpec("yard", "net", "d1", attempts_max=50, age_s_max=drawn.choice([None, 0.5])),
        SourceSpec("pest", "net", drawn.choice(["d0", "d1"]), gamma=3.0, attempts_max=3),
    ]
    policy = drawn.choice(["pa-mdi", "pa-mdi", "ms-mdi", "pa-mdi-pairwise"])
    unit_s = drawn.choice([0.005, 0.025])
    rate_hz = 0.35 * devices / (units * unit_s)
    span_s = WORKS / rate_hz
    weather = random_weather(drawn, 0.3 + span_s)
    settings = Settings(
        devices, units, unit_s, policy=policy, residents=residents, sources=sources, weather=weather,
        batch_seconds=((2, 1.2 * unit_s), (4, 1.6 * unit_s), (8, 2.5 * unit_s)) if batched else (),
    )  # fmt: skip
    world = World(settings, seed)
    world.run(0.3)
    expected = load(world, drawn, rate_hz)
    for _ in range(drawn.randrange(6)):
        plan_fault(world, drawn, 0.3 + drawn.random() * span_s, residents)
    world.run(0.3 + span_s + CALM_S)
    world.check_ends()
    for work, record in world.records.items():
        status, reason, _ = record.ends[0]
        said = reason if status == "failed" else status
        assert said in expected[work], f"seed {seed}: {work} ended {said}, not {' or '.join(expected[work])}"
    bound = 2 * (settings.limits.attempts_total_max + sources[2].attempts_max)  # twice: the weather doubles works
    assert all(kills <= bound for kills in world.poison.values()), f"seed {seed}: poison killed {world.poison}"
    return world


def load(world: World, drawn: random.Random, rate_hz: float) -> Dict[WorkId, List[str]]:
    """Submit works of all kinds. Returns, for each, the ends that it may come to."""
    expected: Dict[WorkId, List[str]] = {}
    odd = drawn.random() < 0.5
    for source in ("gate", "yard"):
        at = 0.3
        for i in range(WORKS):
            at += drawn.expovariate(rate_hz)
            kind = drawn.choice(["cancel", "deadline", "plain", "plain"]) if odd else "plain"
            deadline_s = drawn.choice([0.01, 0.2, 2.0]) if kind == "deadline" else None
            world.at(at, lambda source=source, i=i, d=deadline_s: world.submit(source, str(i), None, d))  # type: ignore[misc]
            if kind == "cancel":
                world.at(at + drawn.expovariate(20.0), lambda source=source, i=i: world.cancel(source, str(i)))  # type: ignore[misc]
            ends = {"cancel": ["cancelled"], "deadline": ["deadline"], "plain": []}[kind]
            expected[WorkId(source, str(i))] = ["answered", *ends]
    if drawn.random() < 0.15:
        poison = WorkId("pest", "poison")
        world.poison[poison] = 0
        world.at(0.3 + drawn.random(), lambda: world.submit(poison.source, poison.id))
        expected[poison] = ["attempts"]
    return expected


def plan_fault(world: World, drawn: random.Random, at: float, residents: Optional[Dict[str, List[int]]]) -> None:
    names = world.settings.devices
    kind = drawn.choice(["crash", "crash", "partition", "reallocate", "broker", "all", "stall"])
    for_s = drawn.uniform(0.1, 4)
    if kind == "crash":
        device = drawn.choice(names)
        world.at(at, lambda: world.crash(device))
        world.at(at + for_s, lambda: None if device in world.devices else world.start(device))
    elif kind == "partition":
        a, b = drawn.sample(names, 2)
        world.at(at, lambda: world.partition(a, b))
        world.at(at + for_s, lambda: world.heal(a, b))
    elif kind == "stall":  # as TCP sees a cut cable: silence first, and only later a link that is down
        a, b = drawn.sample(names, 2)
        world.at(at, lambda: world.cut.add(frozenset((a, b))))
        world.at(at + for_s, lambda: world.partition(a, b))
        world.at(at + for_s + 0.2, lambda: world.heal(a, b))
    elif kind == "broker":
        world.at(at, lambda: world.broker_away(for_s))
    elif kind == "all":
        for device in names:
            world.at(at, lambda device=device: world.crash(device))  # type: ignore[misc]
            back = at + drawn.uniform(0.1, for_s)
            world.at(back, lambda d=device: None if d in world.devices else world.start(d))  # type: ignore[misc]
    elif residents is not None:
        everything = {name: list(range(world.settings.units)) for name in names}
        world.at(at, lambda: world.reallocate(everything))
        world.at(at + 1, lambda: world.reallocate(residents))
