"""The live controller's plans of large fleets: what its loop stands still for, and what the search beside adds.

    python -m benchmarks.live [--fleets 30x30 100x50 300x100 1000x200] [--setting light] [--mesh] [--allocate]
        [--publish]

The fleets are those of ``benchmarks.allocation``; with ``--mesh`` whoever has no link has one of 100 Mbit/s too, as
with a controller whose file says nothing of ``default_rate_bytes_per_s``. All devices come at once. *tick*: the longest
turn of the loop until the first documents are there, and how many turns; *beside*: the process's seconds, its start
included; all are seconds of a processor, so that a busy machine says the same. J is of the first plan, of the plan
after the search, and with ``--allocate`` of ``pamdi allocate`` on the same fleet. *told*: documents and megabytes of
the first epoch, and of those that follow the search until nothing moves any more. ``--publish``:
``benchmarks.publishing`` for the last fleet.
"""

import argparse
import asyncio
import resource
import sys
import time
from typing import Dict, Iterator, List, Tuple

import msgspec

from benchmarks.allocation import SETTINGS, large_fleet
from pamdi.controller.beside import searched
from pamdi.controller.fleet import Fleet
from pamdi.controller.rollout import Rollout
from pamdi.controller.solver.solve import solve
from pamdi.controller.wanted import Wanted
from pamdi.core.allocation import AllocationState, DeviceAllocation, DeviceInfo, ModelSpec, SlotState

TICK_S, STILL_TICKS = 0.1, 100
Documents = Dict[str, DeviceAllocation]


def controlled(fleet: Fleet, mesh: bool) -> Rollout:
    """All its devices have just come."""
    wanted = Wanted(
        {model.id: model for model in fleet.model},
        {model.id: ModelSpec(model.id, tuple(model.bytes)) for model in fleet.model},
        {}, tuple(fleet.source), tuple(fleet.link), default_link=(12_500_000.0, 0.001) if mesh else None,
    )  # fmt: skip
    rollout = Rollout(wanted)
    for device in fleet.device:
        info = DeviceInfo(device.id, device.type, device.memory_bytes, 1, "h", 1, "stub")
        rollout.heard_state(device.id, "online", 0.0)
        rollout.heard_info(device.id, info, 0.0)
        rollout.heard_allocation(device.id, AllocationState(0, ()), 0.0)
    return rollout


def ticks(rollout: Rollout) -> List[float]:
    """Seconds of each until there are documents."""
    found: List[float] = []
    while not rollout.published:
        began = time.process_time()
        rollout.tick(1.0 + TICK_S * len(found))
        found.append(time.process_time() - began)
    return found


def epochs(rollout: Rollout, documents: Documents, now: float) -> Iterator[Documents]:
    """``documents`` and those that follow until nothing moves any more. Every device has loaded at once what it is told
    to hold."""
    still = 0
    while still < STILL_TICKS:
        if documents:
            yield documents
        for id, document in documents.items():
            slots = tuple(SlotState(r.model, r.first, r.stop, "ready") for r in document.segments)
            rollout.heard_allocation(id, AllocationState(document.epoch, slots), now)
        now += TICK_S
        documents = rollout.tick(now)
        still = 0 if documents else still + 1


def told(rollout: Rollout, documents: Documents, now: float) -> str:
    said = [document for some in epochs(rollout, documents, now) for document in some.values()]
    return f"told {len(said)}, {sum(len(msgspec.json.encode(document)) for document in said) / 1e6:.1f} MB"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fleets", nargs="+", default=["30x30", "100x50", "300x100", "1000x200"])
    parser.add_argument("--setting", choices=sorted(SETTINGS), default="light")
    parser.add_argument("--mesh", action="store_true")
    parser.add_argument("--allocate", action="store_true")
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    load, memory = SETTINGS[arguments.setting]
    for name in arguments.fleets:
        devices, sources = sizes(name)
        rollout = controlled(large_fleet(devices, sources, load=load, memory=memory), arguments.mesh)
        turns = ticks(rollout)
        question, first = rollout.question, rollout.plan
        assert first is not None
        said = f"{name} {arguments.setting}: tick {max(turns):.2f} s ({len(turns)}), J {first.objective:.6g}, "
        said += told(rollout, rollout.published, 100.0)
        if question is not None:
            began = _children_s()
            rollout.answered(question, asyncio.run(searched(question, lambda: True)))
            beside_s, plan = _children_s() - began, rollout.plan
            assert plan is not None
            said += f"; beside {beside_s:.1f} s, J {plan.objective:.6g}, {told(rollout, {}, 200.0)}"
        if question is not None and arguments.allocate:
            began = time.process_time()
            best = solve(question.fleet).plan
            said += f"; allocate {time.process_time() - began:.1f} s, J {best.objective:.6g}"
        print(said, flush=True)
    if arguments.publish:
        from benchmarks.publishing import compare

        return 0 if compare(arguments.fleets[-1], arguments.mesh) else 1
    return 0


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sizes(name: str) -> Tuple[int, int]:
    devices, sources = name.split("x")
    return int(devices), int(sources)


if __name__ == "__main__":
    sys.exit(main())
