"""A work that goes on where nobody else waits is started without passing through the queue. This says that nothing else
differs: every device is told and says the same, with the queue or without."""

from typing import Any, List

import pytest

from pamdi.core.compute import Compute
from pamdi.core.events import AnyEvent
from pamdi.core.instructions import AnyInstruction, PublishResult
from pamdi.core.placing import Placing
from pamdi.simulator.faults import plan_faults
from pamdi.simulator.machine import Machine
from pamdi.simulator.random_scenario import random_scenario
from pamdi.simulator.world import Watcher, World

SEEDS = range(1, 81)
PATIENCE_S = 60.0


class Heard(Watcher):
    def __init__(self) -> None:
        self.all: List[Any] = []

    def handled(self, machine: Machine, event: AnyEvent, said: List[AnyInstruction]) -> None:
        assert machine.device is not None
        self.all.append((machine.id, machine.device.context.now, event, tuple(said), machine.device.wake_at()))

    def crashed(self, machine: Machine) -> None:
        self.all.append((machine.id, "crashed"))

    def published(self, machine: Machine, result: PublishResult) -> None:
        self.all.append((machine.id, result))


def heard(seed: int) -> List[Any]:
    scenario, watcher = random_scenario(seed), Heard()
    world = World(scenario, scenario.run.policies[0], seed, watcher=watcher)
    plan_faults(world)
    world.run(PATIENCE_S)
    return watcher.all


def test_with_the_queue_or_without_every_device_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    straight: List[float] = []
    go_on = Compute.go_on

    def counted(self: Compute, *of: Any) -> None:
        straight.append(self._context.now)
        go_on(self, *of)

    monkeypatch.setattr(Compute, "go_on", counted)
    for seed in SEEDS:
        without = heard(seed)
        with monkeypatch.context() as queued:
            queued.setattr(Placing, "_is_alone", lambda self: False)
            assert heard(seed) == without, f"seed {seed}"
    assert len(straight) > 1000
