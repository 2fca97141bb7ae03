"""Devices that are told only what they can use do what they would do if they were told everything.

The same fleets, loads and faults again, on the simulator: everybody is told everything, as in a small fleet, or what a
large fleet's devices are told, read back from its bytes. Every instruction that does not speak of documents, of every
device at every instant, is the same.

That a device is not told again what stays as it is can be seen: a document makes it send a beacon. So there the ends of
all works are the same, and every promise is kept at every event.
"""

import random
from typing import Any, Dict, List, Tuple

import msgspec
import pytest

from pamdi.controller import narrow
from pamdi.controller.documents import content
from pamdi.controller.fleet import DeviceEntry, LinkEntry, MeshEntry, ModelEntry, SourceEntry
from pamdi.controller.narrow import BriefNeighbour
from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core.allocation import DeviceAllocation
from pamdi.core.policy import POLICIES
from pamdi.simulator.faults import plan_faults
from pamdi.simulator.machine import Machine
from pamdi.simulator.promises import Promises
from pamdi.simulator.scenario import ArrivalsEntry, FaultEntry, RunEntry, Scenario
from pamdi.simulator.world import Watcher, World

OF_DOCUMENTS = (ins.SetNeighbours, ins.PublishAllocation)
Line = Tuple[float, str, int, Any]


class Told(World):
    """What a device is told goes through its bytes. ``lean``: as a large fleet's devices are told; ``once``: what stays
    as it is is not told again."""

    def __init__(self, scenario: Scenario, policy: str, watcher: Watcher, lean: bool, once: bool) -> None:
        self.lean, self.once = lean, once
        self.heard: Dict[Tuple[str, int], DeviceAllocation] = {}
        self.bytes = 0
        super().__init__(scenario, policy, 1, watcher=watcher)

    def allocate(self, machine: Machine) -> None:
        document = self.documents.of(machine.id, self.epoch, machine.units)
        before = self.heard.get((machine.id, machine.life))
        if self.once and before is not None and content(before) == content(document):
            return
        self.heard[machine.id, machine.life] = document
        if self.lean:
            brief = tuple(BriefNeighbour(*msgspec.structs.astuple(neighbour)) for neighbour in document.neighbours)
            document = msgspec.structs.replace(document, neighbours=brief)
        payload = msgspec.json.encode(document)
        self.bytes += len(payload)
        self.feed(machine, ev.AllocationReceived(msgspec.json.decode(payload, type=DeviceAllocation)))


class Recorder(Watcher):
    def __init__(self) -> None:
        self.lines: List[Line] = []

    def handled(self, machine: Machine, event: ev.AnyEvent, said: List[ins.AnyInstruction]) -> None:
        assert machine.device is not None
        now = machine.device.context.now
        self.lines += [(now, machine.id, machine.life, i) for i in said if not isinstance(i, OF_DOCUMENTS)]

    def published(self, machine: Machine, result: ins.PublishResult) -> None:
        """It is among what was handled."""

    def crashed(self, machine: Machine) -> None:
        self.lines.append((0.0, machine.id, machine.life, "crashed"))


def large_scenario(devices: int, policy: str, seed: int) -> Scenario:
    """Links to some others, or of some of them a mesh; sources on several devices, more than one device can serve;
    devices are killed, cut off, and told to hold something else."""
    drawn = random.Random(f"{devices}/{policy}/{seed}")
    ids = [f"d{n:03d}" for n in range(devices)]
    links = [LinkEntry(ids[n - 1], id, drawn.choice([1e6, 2.5e6, 1e7]), 0.001) for n, id in enumerate(ids) if n]
    known = {(link.from_, link.to) for link in links}
    for _ in range(2 * devices):
        a, b = sorted(drawn.sample(ids, 2))
        if (a, b) not in known:
            known.add((a, b))
            links.append(LinkEntry(a, b, drawn.choice([1e6, 1e7]), 0.002))
    meshes = [MeshEntry(drawn.sample(ids, devices // 4), 5e6, 0.001)] if drawn.random() < 0.5 else []
    units = 4
    models = [
        ModelEntry(
            name, [str(u) for u in range(units)], [*[20_000] * units, 40], [1] * units, {"board": [0.02] * units}
        )
        for name in ("net", "other")
    ]
    sources = [
        SourceEntry(f"s{n}", drawn.choice(["net", "other"]), drawn.choice(ids), gamma=drawn.choice([1.0, 5.0, 10.0]),
                    rate_hz=10.0, attempts_max=drawn.choice([3, 20]))
        for n in range(5)
    ]  # fmt: skip
    faults = [FaultEntry(drawn.uniform(0.0, 2.0), drawn.choice(ids), "crash", for_s=1.0) for _ in range(3)]
    if policy not in ("ar-mdi", "ddi", "local"):
        for id in drawn.sample(ids, 6):
            held = sorted(drawn.sample(range(units), 2))
            faults.append(FaultEntry(drawn.uniform(0.0, 2.0), id, "reallocate", units=held, for_s=0.5))
    memory = 2 * units if policy in ("ddi", "local") else 3
    return Scenario(
        device=[DeviceEntry(id, "board", memory) for id in ids], link=links, mesh=meshes, model=models, source=sources,
        run=RunEntry(seed=seed, policies=[policy], residents="plan"),
        arrivals=[ArrivalsEntry(source.id, count=15) for source in sources], fault=faults,
    )  # fmt: skip


def played(scenario: Scenario, policy: str, watcher: Watcher, lean: bool = False, once: bool = False) -> Told:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(narrow, "SMALL_FLEET_DEVICES_MAX", 0 if lean else 10**9)
        world = Told(scenario, policy, watcher, lean, once)
        plan_faults(world)
        world.run(60.0)
    return world


def ends(world: Told) -> List[Tuple[int, int, int, int]]:
    figures = [client.figures() for client in world.clients.values()]
    return [(each.count, each.answered, each.failed, each.duplicated) for each in figures]


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("devices", [40, 120])
def test_told_less_every_device_does_the_same(devices: int, policy: str) -> None:
    for seed in range(2):
        scenario = large_scenario(devices, policy, seed)
        all_of_it, part_of_it = Recorder(), Recorder()
        whole, lean = played(scenario, policy, all_of_it), played(scenario, policy, part_of_it, lean=True)
        assert len(all_of_it.lines) == len(part_of_it.lines)
        for line, same in zip(all_of_it.lines, part_of_it.lines):
            assert line == same
        assert ends(whole) == ends(lean) and sum(answered for _, answered, _, _ in ends(whole)) > 0
        assert lean.bytes < whole.bytes


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_told_only_what_has_changed_every_work_ends_as_it_did_and_every_promise_is_kept(policy: str) -> None:
    for seed in range(4):
        scenario = large_scenario(40, policy, seed)
        promises = Promises()
        whole, lean = played(scenario, policy, Recorder()), played(scenario, policy, promises, lean=True, once=True)
        promises.check_ends(lean)
        assert ends(whole) == ends(lean)
