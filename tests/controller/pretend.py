"""A pretend fleet for the rollout: devices that obey documents as daemons do (load, drain, unload, break), a broker
that keeps what is retained, and a judge that looks at every publication.

The judge's rule: a unit that a source needs, and that some online device has ready and was asked to keep, must after
any publication still be ready on some online device that is asked to keep it; but for one unit at a time, where no
device has room left. And no device is ever asked to hold more than its memory together with what it still holds.
"""

from typing import Dict, FrozenSet, List, Optional, Set, Tuple

import msgspec

from pamdi.controller.fleet import Unit
from pamdi.controller.kept import Kept
from pamdi.controller.rollout import Rollout
from pamdi.controller.wanted import Wanted
from pamdi.core.allocation import AllocationState, DeviceAllocation, DeviceInfo, SlotState
from tests.controller.fleets import UNIT_BYTES


class PretendDevice:
    def __init__(self, id: str, memory_bytes: int) -> None:
        self.id, self.memory_bytes = id, memory_bytes
        self.online = False
        self.instance = 0
        self.epoch = 0
        self.slots: Dict[Unit, str] = {}
        self.cursed: Set[Unit] = set()  # units whose engines break here
        self.loads = 0
        self.slower = 1.0  # than its table
        self.runs = 0

    def beacon(self, table_s: float) -> List[Tuple[str, int, int, float]]:
        """What its ready segments take by now, each a little different from the last time, as a mean of runs is."""
        self.runs += 1
        seconds = table_s * (self.slower + 0.002 * (self.runs % 2) + 0.001)
        return [(m, u, u + 1, seconds) for (m, u), state in sorted(self.slots.items()) if state == "ready"]

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.id, "board", self.memory_bytes, self.instance, "h", 1, "stub")

    def state(self) -> AllocationState:
        slots = tuple(
            SlotState(m, u, u + 1, s, "cursed" if s == "broken" else "") for (m, u), s in sorted(self.slots.items())
        )
        return AllocationState(self.epoch, slots)

    def obey(self, document: DeviceAllocation) -> None:
        self.epoch = document.epoch
        asked = {(r.model, r.first) for r in document.segments}
        for unit in asked - set(self.slots):
            self.slots[unit] = "loading"
            self.loads += 1
        for unit in asked & set(self.slots):
            if self.slots[unit] == "draining":
                self.slots[unit] = "ready"
        for unit in set(self.slots) - asked:
            if self.slots[unit] == "broken":
                del self.slots[unit]  # nothing was loaded, so nothing has to go
            else:
                self.slots[unit] = "draining"

    def progress(self) -> None:
        """Every load ends, every drained slot empties."""
        for unit, state in list(self.slots.items()):
            if state == "loading":
                self.slots[unit] = "broken" if unit in self.cursed else "ready"
            elif state == "draining":
                del self.slots[unit]

    def bytes_used(self) -> int:
        return UNIT_BYTES * sum(state != "broken" for state in self.slots.values())


class PretendFleet:
    def __init__(self, wanted: Wanted, memory: List[int]) -> None:
        self.rollout = Rollout(wanted)
        self.devices = {f"d{i}": PretendDevice(f"d{i}", size) for i, size in enumerate(memory)}
        self.retained: Dict[str, DeviceAllocation] = {}
        self.unread: Set[str] = set()
        self.now = 0.0
        self.epochs: List[int] = []
        self.history: List[Dict[str, FrozenSet[Unit]]] = []
        self.gaps = 0

    # -- what happens ----------------------------------------------------------------------------------------------

    def start(self, *ids: str) -> None:
        for id in ids or self.devices:
            device = self.devices[id]
            if device.online:
                continue
            device.online = True
            device.instance += 1
            device.slots, device.epoch = {}, 0
            self.rollout.heard_state(id, "online", self.now)
            self.rollout.heard_info(id, device.info(), self.now)
            self.rollout.heard_allocation(id, device.state(), self.now)
            if id in self.retained:
                self.unread.add(id)

    def kill(self, id: str) -> None:
        if self.devices[id].online:
            self.devices[id].online = False
            self.devices[id].slots = {}
            self.rollout.heard_state(id, "offline", self.now)

    def stop(self, id: str) -> None:
        self.kill(id)
        self.rollout.heard_state(id, "stopped", self.now)

    def read(self, id: str) -> None:
        """The device receives its document and says what it makes of it."""
        device = self.devices[id]
        if device.online and id in self.unread:
            self.unread.discard(id)
            device.obey(self.retained[id])
            self.report(id)

    def work(self, id: str) -> None:
        device = self.devices[id]
        if device.online:
            device.progress()
            self.report(id)

    def everybody(self) -> None:
        for id in self.devices:
            self.read(id)
            self.work(id)

    def run(self, seconds: float, table_s: float = 0.01) -> None:
        """Time goes by, every device works and sends a beacon a second."""
        until = self.now + seconds
        while self.now < until - 1e-9:
            for id, device in self.devices.items():
                if device.online:
                    self.rollout.heard_beacon(id, device.beacon(table_s), self.now)
            self.tick(1.0)
            self.everybody()

    def report(self, id: str) -> None:
        device = self.devices[id]
        assert device.bytes_used() <= device.memory_bytes, (id, device.slots)
        self.rollout.heard_allocation(id, device.state(), self.now)

    def tick(self, dt: float = 0.1) -> None:
        self.now += dt
        before = self.covered()
        documents = self.rollout.tick(self.now)
        if not documents:
            return
        self.epochs.append(self.rollout.epoch)
        self.history.append({id: asked(document) for id, document in documents.items()})
        self.retained.update(documents)
        self.unread |= set(documents)
        lost = (before - self.covered()) & self.needed()
        if lost == {self.rollout.gap}:
            assert not self.room_anywhere(), f"epoch {self.rollout.epoch} leaves a gap although there is room"
            self.gaps += 1
        else:
            assert not lost, f"epoch {self.rollout.epoch} lets go of {sorted(lost)}"

    def settle(self, steps: int = 400, dt: float = 0.1) -> None:
        """Let everything that is under way come to its end."""
        for _ in range(steps):
            self.tick(dt)
            self.everybody()
            if self.rollout.settled() and not self.unread & {i for i, d in self.devices.items() if d.online}:
                return
        raise AssertionError(f"not settled: {self.rollout.unsettled()}")

    def restart_controller(self) -> None:
        """Another life: it knows what it wrote down, and hears what is retained."""
        old = self.rollout
        kept = msgspec.json.decode(msgspec.json.encode(old.kept()), type=Kept)
        self.rollout = Rollout(old.wanted, kept)
        for id, device in self.devices.items():
            if device.instance:
                self.rollout.heard_info(id, device.info(), self.now)
                self.rollout.heard_state(id, "online" if device.online else "offline", self.now)
                if device.online:
                    self.rollout.heard_allocation(id, device.state(), self.now)

    # -- what is true ----------------------------------------------------------------------------------------------

    def needed(self) -> FrozenSet[Unit]:
        plan, basis = self.rollout.plan, self.rollout.basis
        models = {s.model for s in basis.sources if plan is not None and s.id in plan.routes}
        return frozenset((model, u) for model in models for u in range(len(basis.models[model].memory)))

    def covered(self) -> FrozenSet[Unit]:
        """Ready on an online device that is asked to keep it."""
        return frozenset(
            unit
            for id, device in self.devices.items()
            if device.online
            for unit, state in device.slots.items()
            if state == "ready" and id in self.retained and unit in asked(self.retained[id])
        )

    def room_anywhere(self) -> bool:
        """For one more unit, on a device that takes new ones."""
        seen = self.rollout.devices
        return any(
            device.online and not seen[id].draining and device.bytes_used() + UNIT_BYTES <= device.memory_bytes
            for id, device in self.devices.items()
            if id in seen
        )

    def ready(self, id: str) -> FrozenSet[Unit]:
        return frozenset(unit for unit, state in self.devices[id].slots.items() if state == "ready")

    def loads(self) -> int:
        return sum(device.loads for device in self.devices.values())


def asked(document: Optional[DeviceAllocation]) -> FrozenSet[Unit]:
    return frozenset((r.model, r.first) for r in document.segments) if document is not None else frozenset()
