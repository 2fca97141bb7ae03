"""What must hold at every moment of the pretend world, whatever fails.

* No queue exceeds its bound.
* Per device, a work waits for at most one segment of a lower class, a batch of one segment counting as one.
* A batch lasts no longer than it may.
* Nothing is sent without a grant: every tensor uses up one CTC for its key.
* A tensor that is refused is kept by its sender.
* What a device says it has taken, it holds.
* The executor runs one segment at a time, and core and executor agree on whether it does.
"""

from typing import TYPE_CHECKING, Dict, List, Optional, Set, Tuple, Union

from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.work import Key

if TYPE_CHECKING:
    from pamdi.core.device import Device
    from tests.core.world import World


class Invariants:
    def __init__(self, world: "World") -> None:
        self._world = world
        self._grants: Set[Tuple[str, str, Key]] = set()
        # Per device and instance: the class of each queued work when it came, and the lower segments it waited for.
        self._waits: Dict[Tuple[str, int], Dict[Key, int]] = {}
        self._said_taken: List[Key] = []
        self.longest_wait = 0

    def after_event(self, id: str) -> None:
        device, limits = self._world.devices[id], self._world.settings.limits
        queued = device.placing.compute.queued()
        # Beyond the bound: a slot per boundary, and what this device had asked others for and took back when idle.
        slots = sum(model.units for model in device.context.models.values())
        bound = limits.queue_works_max + limits.asks_max + slots
        assert len(queued) <= bound, f"{id} queues {len(queued)} works"
        assert device.placing.room.waiting() <= limits.parked_max
        assert device.holdings.kept_bytes <= limits.backup_bytes_max
        kept = [held for held in device.holdings.all() if held.place in ("backup", "answering")]
        assert device.holdings.kept_bytes == sum(held.nbytes for held in kept)
        assert len(device.context.timers) < 3 * (len(device.holdings) + len(device.remembered)) + 5000
        assert sum(device.placing.room._tally.counts().values()) == len(device.placing.room)
        assert len(device.placing.room) == len(queued) + len(device.placing.room._reservations)
        running = device.placing.compute.running
        assert (running is None) == (self._world.running[id] is None), "core and executor disagree"
        self._count_waits(id)
        for key in self._said_taken:
            held = device.holdings.of(key.work)
            assert held or self._expired(device, key), f"{id} says that it has taken {key}, and holds nothing of it"
        self._said_taken = []

    def starts(self, id: str, i: Union[ins.Infer, ins.InferTogether]) -> None:
        """A segment is never started while a work of a higher class is queued here and could start."""
        assert self._world.running[id] is None, "two segments in the air"
        compute, slots = self._world.devices[id].placing.compute, self._world.devices[id].slots
        if isinstance(i, ins.InferTogether):
            stretch_max = self._world.settings.limits.batch_stretch_max
            assert slots.batch_seconds(i.segment, len(i.parts)) <= stretch_max * slots.seconds(i.segment)
            assert not [held for held in compute.queued() if held.klass > i.urgency], (
                "a batch while an urgent one waits"
            )
        if self._world.settings.policy != "pa-mdi":
            return
        placing, slots = self._world.devices[id].placing, self._world.devices[id].slots
        for held in placing.compute.queued():
            segment = slots.can_still_run(held.model, held.key.boundary)
            if segment is None or placing._outputs_full(held, segment):
                continue
            if placing.klass(held) > i.urgency:
                waits = self._of(id)
                waits[held.key] = waits.get(held.key, 0) + 1

    def _count_waits(self, id: str) -> None:
        """A work that has just been queued waits for what runs; then for nothing of a lower class."""
        placing, waits = self._world.devices[id].placing, self._of(id)
        running = self._world.running[id]
        queued = {held.key: held for held in placing.compute.queued()}
        for key in [key for key in waits if key not in queued]:
            del waits[key]
        for key, held in queued.items():
            if key not in waits:
                waits[key] = 1 if running is not None and running[1] < placing.klass(held) else 0
            self.longest_wait = max(self.longest_wait, waits[key])
            assert waits[key] <= 1, f"{held.key} waits on {id} for {waits[key]} segments of a lower class"

    def _of(self, id: str) -> Dict[Key, int]:
        return self._waits.setdefault((id, self._world.instances[id]), {})

    def _expired(self, device: "Device", key: Key) -> bool:
        """A work past its deadline may have been taken and dropped; a duplicate of it is still answered."""
        return device.remembered.has_passed(key) is False and key.work in self._world.short_lived

    def sent(self, id: str, i: ins.Send) -> None:
        """Nothing is sent without a grant: every tensor follows a CTC for its key that was not used before."""
        if isinstance(i.message, ms.Ctc):
            self._grants.add((i.peer, id, i.message.key))
        elif isinstance(i.message, ms.Taken):
            self._said_taken.append(i.message.key)
        elif isinstance(i.message, ms.Tensor):
            grant = (id, i.peer, i.message.work.key)
            assert grant in self._grants, f"{id} sends {i.message.work.key} to {i.peer} without a grant"
            self._grants.discard(grant)

    def before_delivery(self, id: str, message: ms.AnyMessage) -> Optional[Key]:
        """The key of a tensor that ``message`` refuses, if ``id`` still counts on its being taken."""
        if not isinstance(message, ms.Refusal):
            return None
        held = self._world.devices[id].holdings.get(message.key)
        if held is None or held.place != "sent" or (held.due is not None and held.due <= self._world.now):
            return None
        return message.key

    def after_delivery(self, id: str, message: ms.AnyMessage, kept: Optional[Key]) -> None:
        if kept is not None and id in self._world.devices:
            assert kept in self._world.devices[id].holdings, f"{id} did not keep {kept}, which was refused"
