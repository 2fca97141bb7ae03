"""Links and paths found for many pairs at once are those of the controller."""

import random
from typing import List

import pytest

from pamdi.controller.fleet import DeviceEntry, Fleet, LinkEntry, MeshEntry
from pamdi.controller.network import Network
from pamdi.simulator.run import run_world
from pamdi.simulator.scenario import FaultEntry
from pamdi.simulator.ways import Ways
from tests.simulator.fleets import GATE, fleet


def random_fleet(seed: int) -> Fleet:
    drawn = random.Random(seed)
    ids = [f"d{i}" for i in range(drawn.randrange(2, 12))]
    pairs = {tuple(drawn.sample(ids, 2)) for _ in range(drawn.randrange(len(ids) * 2))}
    kept: List["tuple[str, str]"] = sorted((a, b) for a, b in pairs if (b, a) not in pairs)
    links = [LinkEntry(a, b, drawn.uniform(1e5, 1e7), 0.001, one_way=drawn.random() < 0.3) for a, b in kept]
    meshes = [MeshEntry(drawn.sample(ids, 2), 1e6)] if drawn.random() < 0.5 else []
    return Fleet(device=[DeviceEntry(id, "board", 1) for id in ids], link=links, mesh=meshes)


@pytest.mark.parametrize("seed", range(30))
def test_every_path_is_the_controllers(seed: int) -> None:
    some = random_fleet(seed)
    network, ways = Network(some), Ways(some)
    for a in ways.ids:
        reached = ways.paths(a)
        for b in ways.ids:
            if a != b:
                assert reached.get(b) == network.path(a, b)


def test_in_a_large_fleet_a_device_that_gets_a_work_is_connected_with_its_head() -> None:
    """Forty devices in a ring; only d0 to d3 hold a unit each, so every work ends three links away from its head."""
    ring = [LinkEntry(f"d{i}", f"d{(i + 1) % 40}", 2.5e6, 0.002) for i in range(40)]
    holds = [FaultEntry(0.0, f"d{i}", "reallocate", units=[i] if i < 4 else []) for i in range(40)]
    scenario = fleet(devices=40, links=ring, sources=[GATE], faults=holds)
    world = run_world(scenario, "pa-mdi", 1, check=True)
    assert world.clients["gate"].figures().answered == 10
    assert set(world.machines["d0"].peers) == {"d1", "d2", "d3", "d39"}
    assert len(world.machines["d20"].peers) == 2
