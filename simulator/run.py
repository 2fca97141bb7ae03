"""A scenario, run: one world per policy, all with the same arrivals."""

from typing import Callable, List, Optional, Sequence

from pamdi.simulator.faults import plan_faults
from pamdi.simulator.promises import Promises
from pamdi.simulator.report import Run, run_of
from pamdi.simulator.scenario import Scenario
from pamdi.simulator.world import World

PATIENCE_S = 600.0  # simulated seconds after the last arrival: what has no end by then is lost


def simulate(
    scenario: Scenario,
    policies: Optional[Sequence[str]] = None,
    seed: Optional[int] = None,
    check: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> List[Run]:
    """``check``: every promise is checked at every event, which takes a few times as long; BrokenPromise is raised
    for the first that does not hold."""
    seed = scenario.run.seed if seed is None else seed
    runs = []
    for policy in policies or scenario.run.policies:
        say(f"simulating {policy} ...")
        runs.append(run_of(run_world(scenario, policy, seed, check)))
    return runs


def run_world(scenario: Scenario, policy: str, seed: int, check: bool = False) -> World:
    promises = Promises() if check else None
    world = World(scenario, policy, seed, watcher=promises)
    plan_faults(world)
    world.run(PATIENCE_S)
    if promises is not None:
        promises.check_ends(world)
    return world
