"""The promises of the protocol, checked at every event of every device: what the fault search looks for.

    1. one segment in the air per device, and core and executor agree about it
    2. a segment is never started while a work of a higher class is queued there and could start
    3. every tensor follows a clearance for its key that was not used before
    4. queues, parked requests, requests in the air and kept copies stay within their bounds
    5. what is acknowledged is there: ``taken`` is said only of a work that is held (or was, and has gone on)
    6. ``admitted`` is said only of what the journal holds, an end only when the journal holds it
    7. an id ends once: every end that is published for it is the same
    8. an answer went through every unit once, in order, and its tensors are its own
    9. a message survives its encoding

At the end of a run every work that was submitted has ended. This file alone looks into the core's parts.
"""

from collections import Counter
from typing import Any, Callable, Dict, List, Tuple, Type

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.device import Device
from pamdi.core.errors import PamdiError
from pamdi.core.work import Key, WorkId
from pamdi.simulator.machine import Machine
from pamdi.simulator.world import Watcher, World


class BrokenPromise(PamdiError):
    """``promise`` is the rule, ``str()`` the case."""

    def __init__(self, promise: str, case: str) -> None:
        super().__init__(f"{promise}: {case}")
        self.promise = promise


class Promises(Watcher):
    """``handled`` raises BrokenPromise."""

    def __init__(self) -> None:
        self._grants: "Counter[Tuple[str, str, Key]]" = Counter()
        self._ends: Dict[WorkId, Any] = {}
        self._seen: Dict[Type[Any], Callable[[Machine, Any], None]] = {
            ins.Send: self._sent,
            ins.Infer: self._infer,
            ins.InferTogether: self._infer_together,
        }

    def handled(self, machine: Machine, event: ev.AnyEvent, said: List[ins.AnyInstruction]) -> None:
        assert machine.device is not None
        for instruction in said:
            seen = self._seen.get(type(instruction))
            if seen is not None:
                seen(machine, instruction)
        self._bounds(machine.id, machine.device)
        running = machine.device.placing.compute.running
        _hold("one segment at a time", running is None, machine.running is None, machine.id)

    def crashed(self, machine: Machine) -> None:
        """What it was cleared for is void. What it cleared others for is not: they may not know yet that it is dead."""
        self._grants = Counter({grant: n for grant, n in self._grants.items() if grant[0] != machine.id})

    def published(self, machine: Machine, result: ins.PublishResult) -> None:
        kept = machine.journal.kept.get(result.work)
        if result.status == "admitted" and kept is None:
            raise BrokenPromise("admitted means journaled", f"{machine.id} admits {_name(result.work)} too early")
        if result.status not in ("answered", "failed"):
            return
        if kept is None or kept.final is None:
            raise BrokenPromise("an end is journaled first", f"{machine.id} publishes the end of {_name(result.work)}")
        end = (result.status, result.reason, result.latency_s, result.path, result.payload)
        first = self._ends.setdefault(result.work, end)
        if first != end:
            raise BrokenPromise("an id ends once", f"{_name(result.work)}: first {first}, then {end}")
        if result.status == "answered":
            self._whole(machine, result)

    def check_ends(self, world: World) -> None:
        """After a run without ``duration_s``."""
        for client in world.clients.values():
            for record in client.unended():
                raise BrokenPromise(
                    "every work ends",
                    f"{_name(record.work)}, submitted at {record.submitted_at:.3f}, has no end; "
                    f"{where(world, record.work)}",
                )

    # -- what was said -----------------------------------------------------------------------------------------------

    def _sent(self, machine: Machine, i: ins.Send) -> None:
        message = i.message
        if ms.decode(ms.encode(message)) != message:
            raise BrokenPromise("a message survives its encoding", repr(message))
        if isinstance(message, ms.Ctc):
            self._grants[i.peer, machine.id, message.key] += 1
        elif isinstance(message, ms.Tensor):
            self._tensor(machine, i.peer, message.work.key, i.payload)
        elif isinstance(message, ms.Taken):
            self._taken(machine, message.key)

    def _tensor(self, machine: Machine, peer: str, key: Key, payload: Any) -> None:
        grant = (machine.id, peer, key)
        if not self._grants[grant]:
            raise BrokenPromise("no tensor without a clearance", f"{machine.id} sends {_key(key)} to {peer}")
        self._grants[grant] -= 1
        _its_own(machine.id, key, payload)

    def _taken(self, machine: Machine, key: Key) -> None:
        device = machine.device
        assert device is not None
        if not _is_known(device, key):
            raise BrokenPromise("what is acknowledged is there", f"{machine.id} says taken of {_key(key)}, not held")

    def _infer(self, machine: Machine, i: ins.Infer) -> None:
        _its_own(machine.id, i.key, i.payload)
        self._urgent_first(machine, i.key, i.urgency)

    def _infer_together(self, machine: Machine, i: ins.InferTogether) -> None:
        for part in i.parts:
            _its_own(machine.id, part.key, part.payload)
        self._urgent_first(machine, i.parts[0].key, i.urgency)

    def _urgent_first(self, machine: Machine, key: Key, urgency: float) -> None:
        device = machine.device
        assert device is not None
        placing = device.placing
        for held in placing.compute.queued():
            segment = device.slots.can_still_run(held.model, held.key.boundary)
            if segment is None or placing._outputs_full(held, segment):
                continue
            if placing.klass(held) > urgency and not device.context.policy.youngest_first:
                raise BrokenPromise("urgent first", f"{machine.id} starts {_key(key)} while {_key(held.key)} is queued")

    def _bounds(self, id: str, device: Device) -> None:
        limits, placing = device.context.limits, device.placing
        parked, kept = placing.room.waiting(), device.holdings.kept_bytes
        # A work that goes on where it is needs no room. Copies that come back when a neighbour is lost go on here too:
        # those are bounded in bytes, by ``backup_bytes_max``.
        queued = sum(not held.continuing for held in placing.compute.queued())
        # One slot for each boundary, whatever is resident by now, and what was taken back from asking others.
        slots = sum(model.units for model in device.context.models.values())
        if queued > limits.queue_works_max + limits.asks_max + slots:
            raise BrokenPromise("queues are bounded", f"{id} queues {queued} works")
        if parked > limits.parked_max:
            raise BrokenPromise("queues are bounded", f"{id} parks {parked} requests")
        counted = sum(held.nbytes for held in device.holdings.all() if held.place in ("backup", "answering"))
        if counted != kept or kept > limits.backup_bytes_max:
            raise BrokenPromise("copies are bounded", f"{id} keeps {counted} bytes, counts {kept}")

    def _whole(self, machine: Machine, result: ins.PublishResult) -> None:
        device = machine.device
        assert device is not None
        source = device.context.sources.get(result.work.source)
        if source is None:
            return
        units = device.context.models[source.model].units
        at = 0
        for visit in result.path:
            if visit.first != at:
                raise BrokenPromise("every unit once, in order", f"{_name(result.work)}: {result.path}")
            at = visit.stop
        if at != units or result.payload.work != result.work or result.payload.boundary != units:
            raise BrokenPromise("every unit once, in order", f"{_name(result.work)} ends at {at} of {units} units")


def _is_known(device: Device, key: Key) -> bool:
    if any(True for _ in device.holdings.of(key.work)):
        return True
    return device.remembered.has_ended(key.work) or device.remembered.has_passed(key) is True


def _its_own(id: str, key: Key, payload: Any) -> None:
    if payload.work != key.work or payload.boundary != key.boundary:
        raise BrokenPromise("tensors are their work's own", f"{id}: {_key(key)} with {payload}")


def _hold(promise: str, ours: bool, theirs: bool, id: str) -> None:
    if ours != theirs:
        raise BrokenPromise(promise, f"{id}: the core says {ours}, the executor {theirs} to being idle")


def _name(work: WorkId) -> str:
    return f"{work.source}/{work.id}"


def _key(key: Key) -> str:
    return f"{key.source}/{key.id}@{key.boundary} attempt {key.attempt}"


def where(world: World, work: WorkId) -> str:
    """Where a work is in the whole fleet, for whoever must find out why it does not end."""
    places, heads = [], []
    for id, machine in world.machines.items():
        if machine.device is None:
            continue
        for held in machine.device.holdings.of(work):
            places.append(f"{id}:{held.place}->{held.peer}@{held.key.boundary}/a{held.key.attempt}")
        admitted = machine.device.head.get(work)
        if admitted is not None:
            heads.append(f"{id}:{admitted.state}")
    return f"held {places}, heads {heads}"
