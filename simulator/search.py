"""The search for faults: random scenarios by number, every promise checked at every event, the first failure shrunk.

A number names a scenario, so a failure is found again by its number, on any machine. Shrinking is greedy: leave out a
fault, a source, a device, half of the works, a unit, a special setting, as long as the same promise still breaks.
"""

import traceback
from typing import Callable, Iterator, List, NamedTuple, Optional

from msgspec.structs import replace

from pamdi.controller.fleet import ModelEntry
from pamdi.core.limits import Limits
from pamdi.simulator.faults import plan_faults
from pamdi.simulator.promises import BrokenPromise, Promises
from pamdi.simulator.random_scenario import random_scenario
from pamdi.simulator.scenario import Scenario
from pamdi.simulator.world import World

PATIENCE_S = 200.0  # simulated seconds after the last arrival
EVENTS_MAX = 400_000  # a world that takes more does not come to rest
SHRINKS_MAX = 300  # runs spent on making a failure small
MAY_FAIL = frozenset({"deadline"})


class Failure(NamedTuple):
    """``promise`` is the rule that broke, or the exception that the core raised; ``case`` says more."""

    seed: int
    promise: str
    case: str


def search(
    seeds: Iterator[int], say: Callable[[str], None] = lambda line: None, failures_max: int = 10
) -> List[Failure]:
    """The failures among ``seeds``; stops after ``failures_max`` of them."""
    found: List[Failure] = []
    for tried, seed in enumerate(seeds, 1):
        failure = try_scenario(random_scenario(seed), seed)
        if failure is not None:
            found.append(failure)
            say(f"seed {seed}: {failure.promise}: {failure.case}")
            if len(found) >= failures_max:
                break
        if tried % 100 == 0:
            say(f"{tried} seeds tried, {len(found)} failures")
    return found


def try_scenario(scenario: Scenario, seed: int) -> Optional[Failure]:
    try:
        _run(scenario)
    except BrokenPromise as broken:
        return Failure(seed, broken.promise, str(broken).partition(": ")[2])
    except Exception as error:  # whatever the core raises is a finding
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename.rpartition('/')[2]}, {frame.name}"
        return Failure(seed, f"{type(error).__name__} in {where}", str(error))
    return None


def shrink(scenario: Scenario, failure: Failure, say: Callable[[str], None] = lambda line: None) -> Scenario:
    """The smallest scenario found that breaks the same promise."""
    runs, shrunk = 0, True
    while shrunk:
        shrunk = False
        for smaller in _smaller(scenario):
            runs += 1
            if runs > SHRINKS_MAX:
                return scenario
            again = try_scenario(smaller, failure.seed)
            if again is not None and again.promise == failure.promise:
                scenario, shrunk = smaller, True
                say(f"shrinking: {_size(scenario)}")
                break
    return scenario


def _run(scenario: Scenario) -> None:
    promises = Promises()
    world = World(scenario, scenario.run.policies[0], scenario.run.seed, watcher=promises)
    plan_faults(world)
    world.events_max = EVENTS_MAX
    world.run(PATIENCE_S)
    promises.check_ends(world)
    for client in world.clients.values():
        for record in client.records.values():
            end = record.end
            if end is not None and end.status == "failed" and end.reason not in MAY_FAIL:
                raise BrokenPromise("what can be computed is answered", f"{record.work}: {end.reason}: {end.detail}")


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Candidates, the boldest first."""
    faults, sources = scenario.fault, scenario.source
    if len(faults) > 2:
        yield replace(scenario, fault=faults[: len(faults) // 2])
        yield replace(scenario, fault=faults[len(faults) // 2 :])
    for i in range(len(faults)):
        yield replace(scenario, fault=faults[:i] + faults[i + 1 :])
    for source in sources if len(sources) > 1 else []:
        yield replace(
            scenario,
            source=[s for s in sources if s is not source],
            arrivals=[a for a in scenario.arrivals if a.source != source.id],
        )
    yield from _fewer_devices(scenario)
    for i, entry in enumerate(scenario.arrivals):
        for count in sorted({(entry.count or 0) // 2, (entry.count or 0) - 1}):
            if count > 0:
                fewer = replace(entry, count=count)
                yield replace(scenario, arrivals=[*scenario.arrivals[:i], fewer, *scenario.arrivals[i + 1 :]])
    yield from _fewer_units(scenario)
    plain = replace(scenario.run, limits=Limits(), jitter=0.0)
    if scenario.run != plain:
        yield replace(scenario, run=plain)


def _fewer_devices(scenario: Scenario) -> Iterator[Scenario]:
    heads = {source.device for source in scenario.source}
    spare = [device.id for device in scenario.device if device.id not in heads]
    for id in reversed(spare if not scenario.link else spare[-1:]):
        faults = [
            replace(fault, with_=[other for other in fault.with_ if other != id])
            for fault in scenario.fault
            if fault.device != id and fault.with_ != [id]
        ]
        links = [link for link in scenario.link if id not in (link.from_, link.to)]
        yield replace(scenario, device=[d for d in scenario.device if d.id != id], link=links, fault=faults)


def _fewer_units(scenario: Scenario) -> Iterator[Scenario]:
    model = scenario.model[0]
    units = len(model.units) - 1
    if units:
        seconds = {kind: some[:units] for kind, some in model.seconds.items()}
        less = ModelEntry(model.id, model.units[:units], [*model.bytes[:units], model.bytes[-1]],
                          model.memory[:units], seconds)  # fmt: skip
        faults = [replace(fault, units=[u for u in fault.units if u < units]) for fault in scenario.fault]
        yield replace(scenario, model=[less], fault=faults)


def _size(scenario: Scenario) -> str:
    works = sum(entry.count or 0 for entry in scenario.arrivals)
    return f"{len(scenario.device)} devices, {works} works, {len(scenario.fault)} faults"
