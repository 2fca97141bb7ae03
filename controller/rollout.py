"""From what the fleet says to what it is told: make-before-break, by epoch.

Pure: facts in, documents out, time an argument. The target is what ``placement`` wants; what is *published* for a
device is its target and, as long as any device still loads something of its own target, whatever it held before. So
new engines are loaded first, routes switch when all are ready, and only then does the old go. Memory that cannot
hold both is the one case for drain-first: the old units that another device has ready, most plentiful first, make
room, and if that is not enough the new ones wait for the next epoch.

A document is published when its content changes, and then all documents carry the new epoch.
"""

from typing import Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

from pamdi.controller.placement import Board, ModelFacts, Placement, Unit, place
from pamdi.core.allocation import (
    AllocationState,
    DeviceAllocation,
    DeviceInfo,
    ModelSpec,
    Neighbour,
    Resident,
    SourceSpec,
)
from pamdi.core.device_life import DEVICE

BROKEN_RETRY_S = 60.0


class Wanted(NamedTuple):
    """The configuration: what people asked for. ``digests[(model, unit)]``: sha256 of the segment's file."""

    models: Dict[str, ModelFacts]
    specs: Dict[str, ModelSpec]
    digests: Dict[Unit, str]
    sources: Tuple[SourceSpec, ...]
    links: Dict[Tuple[str, str], Tuple[float, float]]
    default_link: Tuple[float, float]
    policy: str
    settle_s: float
    gone_after_s: float


class Facts:
    """One device as far as it has told us."""

    def __init__(self) -> None:
        self.life = DEVICE.initial
        self.since = 0.0
        self.info: Optional[DeviceInfo] = None
        self.state: Optional[AllocationState] = None
        self.draining = False
        self.broken: Dict[Unit, float] = {}

    def units(self, *states: str) -> FrozenSet[Unit]:
        segments = self.state.segments if self.state is not None else ()
        return frozenset((s.model, s.first) for s in segments if s.state in states)


class Rollout:
    def __init__(self, wanted: Wanted, epoch: int = 0) -> None:
        self.wanted = wanted
        self.epoch = epoch
        self.devices: Dict[str, Facts] = {}
        self.placement = Placement({}, {}, {})
        self.published: Dict[str, DeviceAllocation] = {}
        self._plan_at: Optional[float] = None
        self._target: Dict[str, FrozenSet[Unit]] = {}

    # -- facts -----------------------------------------------------------------------------------------------------

    def heard_state(self, id: str, state: str, now: float) -> None:
        """The device's retained state topic: online, offline or stopped."""
        if state not in ("online", "offline", "stopped"):
            return
        facts = self.devices.setdefault(id, Facts())
        before, facts.life = facts.life, DEVICE.step(facts.life, state)
        if facts.life != before:
            facts.since = now
            self._replan(now)

    def heard_info(self, id: str, info: DeviceInfo, now: float) -> None:
        facts = self.devices.setdefault(id, Facts())
        if facts.info != info:
            facts.info = info
            facts.broken.clear()  # another life, another chance
            self._replan(now)

    def heard_allocation(self, id: str, state: AllocationState, now: float) -> None:
        facts = self.devices.setdefault(id, Facts())
        facts.state = state
        if state.epoch > self.epoch:
            self.epoch = state.epoch  # somebody before us went further
            self._replan(now)
        for unit in facts.units("broken"):
            if unit not in facts.broken:
                facts.broken[unit] = now + BROKEN_RETRY_S
                self._replan(now)

    def configure(self, wanted: Wanted, now: float) -> None:
        self.wanted = wanted
        self._replan(now)

    def drain(self, id: str, on: bool, now: float) -> str:
        """Returns a sentence for who asked."""
        facts = self.devices.get(id)
        if facts is None:
            return f"no device {id}"
        facts.draining = on
        self._replan(now)
        return f"{id} hands its segments to others and is left empty" if on else f"{id} takes part again"

    def reallocate(self, now: float) -> None:
        for facts in self.devices.values():
            facts.broken.clear()
        self._replan(now)

    def head_of(self, source: str) -> Tuple[Optional[SourceSpec], bool]:
        """The source, if there is one, and whether its head can take works."""
        spec = next((s for s in self.wanted.sources if s.id == source), None)
        if spec is None or source in self.placement.refused:
            return spec, False
        facts = self.devices.get(spec.device)
        return spec, facts is not None and facts.life == "online"

    # -- documents -------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> Dict[str, DeviceAllocation]:
        """What to publish now, by device; empty when nothing has changed."""
        self._age(now)
        if self._plan_at is not None and now >= self._plan_at:
            self._plan_at = None
            self._plan(now)
        if not self._target:
            return {}
        wanted = {id: self._document(id) for id in self._reachable()}
        same = {id: document for id, document in self.published.items() if id in wanted}
        if {id: _content(d) for id, d in same.items()} == {id: _content(d) for id, d in wanted.items()}:
            return {}
        self.epoch += 1
        self.published = {id: _with_epoch(document, self.epoch) for id, document in wanted.items()}
        return self.published

    def settled(self) -> bool:
        """Whether every device holds exactly its target."""
        return self._plan_at is None and all(
            self.devices[id].units("ready") == target and not self.devices[id].units("loading", "draining")
            for id, target in self._target.items()
            if self.devices[id].life == "online"
        )

    def _replan(self, now: float) -> None:
        at = now + self.wanted.settle_s
        self._plan_at = at if self._plan_at is None else min(self._plan_at, at)

    def _age(self, now: float) -> None:
        for id, facts in self.devices.items():
            if facts.life == "suspect" and now >= facts.since + self.wanted.gone_after_s:
                facts.life, facts.since = DEVICE.step("suspect", "overdue"), now
                self._replan(now)
            for unit in [unit for unit, until in facts.broken.items() if now >= until]:
                del facts.broken[unit]
                self._replan(now)

    def _reachable(self) -> List[str]:
        return sorted(id for id, f in self.devices.items() if f.life in ("online", "suspect") and f.info is not None)

    def _plan(self, now: float) -> None:
        boards = []
        for id in self._reachable():
            facts = self.devices[id]
            assert facts.info is not None
            memory = 0 if facts.draining else facts.info.memory_bytes
            boards.append(Board(id, facts.info.type, memory, frozenset(facts.broken)))
        if not boards:
            return
        before = {id: self.devices[id].units("ready", "loading") for id in self._reachable()}
        wanted = self.wanted
        rates = {
            (a.id, b.id): wanted.links.get((a.id, b.id), wanted.default_link) for a in boards for b in boards if a != b
        }
        self.placement = place(boards, wanted.models, list(wanted.sources), rates, wanted.policy, before)
        self._target = {id: self.placement.holds[id] for id in self._reachable()}

    def _loading(self) -> bool:
        """Whether some part of the target is not there yet."""
        return any(
            target - self.devices[id].units("ready") - frozenset(self.devices[id].broken)
            for id, target in self._target.items()
            if self.devices[id].life == "online"
        )

    def _document(self, id: str) -> DeviceAllocation:
        facts = self.devices[id]
        assert facts.info is not None
        target = self._target.get(id, frozenset())
        held = facts.units("ready", "loading", "draining") if self._loading() else frozenset()
        units = self._within_memory(id, target, frozenset(u for u in held if u[0] in self.wanted.models))
        sources = tuple(s for s in self.wanted.sources if s.id not in self.placement.refused)
        names = {source.model for source in sources} | {unit[0] for unit in units}
        return DeviceAllocation(
            epoch=0,
            policy=self.wanted.policy,
            segments=tuple(self._resident(unit, facts.info.type) for unit in sorted(units)),
            sources=sources,
            models=tuple(self.wanted.specs[name] for name in sorted(names)),
            routes=self.placement.routes,
            neighbours=self._neighbours(id),
        )

    def _within_memory(self, id: str, target: FrozenSet[Unit], held: FrozenSet[Unit]) -> FrozenSet[Unit]:
        info = self.devices[id].info
        assert info is not None
        room = info.memory_bytes - self._bytes(target | held)
        keep = set(held - target)
        for unit in sorted(keep, key=lambda u: (-self._ready_elsewhere(id, u), u)):
            if room >= 0 or not self._ready_elsewhere(id, unit):
                break
            keep.discard(unit)
            room += self._bytes({unit})
        take: Set[Unit] = set(target)
        for unit in sorted(target - held):
            if room >= 0:
                break
            take.discard(unit)
            room += self._bytes({unit})
        return frozenset(take | keep)

    def _ready_elsewhere(self, id: str, unit: Unit) -> int:
        return sum(
            unit in facts.units("ready") and unit in self._target.get(other, ())
            for other, facts in self.devices.items()
            if other != id and facts.life == "online"
        )

    def _bytes(self, units: "Set[Unit] | FrozenSet[Unit]") -> int:
        return sum(self.wanted.models[model].memory[u] for model, u in units)

    def _resident(self, unit: Unit, type: str) -> Resident:
        model, u = unit
        facts = self.wanted.models[model]
        seconds = facts.seconds[type][u] if type in facts.seconds else 0.0
        return Resident(model, u, u + 1, self.wanted.digests.get(unit, ""), seconds, facts.memory[u])

    def _neighbours(self, id: str) -> Tuple[Neighbour, ...]:
        found = []
        for other in self._reachable():
            info = self.devices[other].info
            if other != id and info is not None:
                rate, delay_s = self.wanted.links.get((id, other), self.wanted.default_link)
                found.append(Neighbour(other, info.host, info.port, rate, delay_s))
        return tuple(found)


def _content(document: DeviceAllocation) -> DeviceAllocation:
    return _with_epoch(document, 0)


def _with_epoch(document: DeviceAllocation, epoch: int) -> DeviceAllocation:
    return DeviceAllocation(
        epoch, document.policy, document.segments, document.sources, document.models, document.routes,
        document.neighbours,
    )  # fmt: skip
