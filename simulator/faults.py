"""What goes wrong, and when: every kind of ``[[fault]]`` as what it does to the world, and what undoes it."""

import functools
from typing import Callable, Dict, FrozenSet, Iterable, NamedTuple

from pamdi.controller.fleet import Unit
from pamdi.core import events as ev
from pamdi.simulator.heap import FAULT
from pamdi.simulator.machine import Pair
from pamdi.simulator.scenario import FaultEntry
from pamdi.simulator.server import Line
from pamdi.simulator.world import WARM_UP_S, World

Act = Callable[[World, FaultEntry], None]


class Kind(NamedTuple):
    do: Act
    undo: Act


def plan_faults(world: World) -> None:
    for fault in world.scenario.fault:
        kind = KINDS[fault.kind]
        at = WARM_UP_S + fault.at_s
        world.heap.put(at, functools.partial(kind.do, world), fault, FAULT)
        if fault.for_s is not None:
            world.heap.put(at + fault.for_s, functools.partial(kind.undo, world), fault, FAULT)


def _crash(world: World, fault: FaultEntry) -> None:
    world.crash(world.machines[fault.device])


def _start(world: World, fault: FaultEntry) -> None:
    world.start(world.machines[fault.device])


def _restart(world: World, fault: FaultEntry) -> None:
    _crash(world, fault)
    _start(world, fault)


def _slow(world: World, fault: FaultEntry) -> None:
    """From the next segment on."""
    world.machines[fault.device].slow = fault.factor


def _fast(world: World, fault: FaultEntry) -> None:
    world.machines[fault.device].slow = 1.0


def _pairs(world: World, fault: FaultEntry) -> Iterable[Pair]:
    """Direct links alone: ways over others follow them."""
    for other in fault.with_:
        pair = world.connections.pair(fault.device, other)
        if pair is not None and not pair.via:
            yield pair


def _cut(world: World, fault: FaultEntry) -> None:
    for pair in _pairs(world, fault):
        world.connections.cut(pair)


def _mend(world: World, fault: FaultEntry) -> None:
    for pair in _pairs(world, fault):
        world.connections.mend(pair)


def _lines(world: World, fault: FaultEntry) -> Iterable[Line]:
    for (a, b), line in world.connections.lines.items():
        other = b if a == fault.device else a if b == fault.device else None
        if other is not None and (not fault.with_ or other in fault.with_):
            yield line


def _slow_links(world: World, fault: FaultEntry) -> None:
    for line in _lines(world, fault):
        line.server.rate_changes(line, line.nominal_bytes_per_s * fault.factor)


def _normal_links(world: World, fault: FaultEntry) -> None:
    for line in _lines(world, fault):
        line.server.rate_changes(line, line.nominal_bytes_per_s)


def _reallocate(world: World, fault: FaultEntry) -> None:
    _hold(world, fault.device, frozenset((m.id, u) for m in world.scenario.model for u in fault.units))


def _back(world: World, fault: FaultEntry) -> None:
    _hold(world, fault.device, world.placing.holds.get(fault.device, frozenset()))


def _hold(world: World, id: str, units: FrozenSet[Unit]) -> None:
    """A new epoch, in which this device holds ``units``."""
    world.epoch += 1
    world.machines[id].units = units
    for machine in world.machines.values():
        if machine.device is not None:
            world.allocate(machine)


def _drain(world: World, fault: FaultEntry) -> None:
    world.feed(world.machines[fault.device], ev.DrainAsked(True))


def _undrain(world: World, fault: FaultEntry) -> None:
    world.feed(world.machines[fault.device], ev.DrainAsked(False))


KINDS: Dict[str, Kind] = {
    "crash": Kind(_crash, _start),
    "restart": Kind(_restart, _start),
    "slow": Kind(_slow, _fast),
    "partition": Kind(_cut, _mend),
    "link_rate": Kind(_slow_links, _normal_links),
    "reallocate": Kind(_reallocate, _back),
    "drain": Kind(_drain, _undrain),
}
