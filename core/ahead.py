"""The way that is left: how many seconds from the end of a segment until the answer is at its head.

A shortest path in the layered graph (layers are unit boundaries, nodes are the devices that hold the unit which starts
there), backwards from the model's end, over this device and the neighbours it knows. What a device does not know it
takes from what it does: the link between two neighbours is taken to be like its own link to the second of them. Queues
are left out, since they will be others by then. So of two workers with equal queues the one is preferred that is faster
for all that is left, that holds what comes after, and that is near the head.

Costs units x devices once per change of who holds what, and one look per candidate afterwards.
"""

from typing import Dict, List, Optional, Sequence, Tuple

from msgspec.structs import replace

from pamdi.core.context import Context
from pamdi.core.peers import Peers
from pamdi.core.policy import Candidate
from pamdi.core.slots import Slots

Costs = Dict[Tuple[str, int], float]  # seconds from boundary u to the answer, for a work that is on a device
FAR_S = 1e9  # from here on nobody in reach goes on: worse than anything, yet a number


class Ahead:
    def __init__(self, context: Context, peers: Peers, slots: Slots) -> None:
        self._context = context
        self._peers = peers
        self._slots = slots
        self._costs: Dict[Tuple[str, str], Costs] = {}
        self._as_of = (-1, -1)

    def look(self, candidates: Sequence[Candidate], model: str, boundary: int, head: str) -> List[Candidate]:
        """The candidates with ``rest_s``, for the segment that starts at ``boundary``."""
        as_of = (self._slots.layout, self._peers.layout)
        if as_of != self._as_of:
            self._costs, self._as_of = {}, as_of
        costs = self._costs.get((model, head))
        if costs is None:
            costs = self._costs[model, head] = self._backwards(model, head)
        found = []
        for candidate in candidates:
            run = self._run(candidate.device, model, boundary)
            rest_s = costs.get((candidate.device, run[0]), FAR_S) if run is not None else FAR_S
            found.append(replace(candidate, rest_s=rest_s))
        return found

    def _backwards(self, model: str, head: str) -> Costs:
        spec = self._context.models.get(model)
        if spec is None:
            return {}
        devices = [self._context.device, *self._peers.linked()]
        costs: Costs = {(id, spec.units): self._home_s(id, head, spec.bytes[-1]) for id in devices}
        for u in range(spec.units - 1, 0, -1):
            staying: Dict[str, float] = {}
            for id in devices:
                run = self._run(id, model, u)
                if run is not None:
                    staying[id] = run[1] + costs.get((id, run[0]), FAR_S)
            moving = sorted((self._reach_s(id, spec.bytes[u]) + cost, id) for id, cost in staying.items())[:2]
            for id in devices:
                options = [cost for cost, other in moving if other != id] + [staying.get(id, FAR_S)]
                costs[id, u] = min(options)
        return costs

    def _run(self, id: str, model: str, u: int) -> Optional[Tuple[int, float]]:
        """Where the segment of ``id`` that starts at ``u`` stops, and its seconds."""
        if id != self._context.device:
            return self._peers.ready_at(id, model, u)
        segment = self._slots.ready_at(model, u)
        return None if segment is None else (segment.stop, self._slots.seconds(segment))

    def _reach_s(self, id: str, nbytes: int) -> float:
        """From any device to ``id``. To us it is what it is to our nearest neighbour."""
        if id != self._context.device:
            return self._peers.transfer_s(id, nbytes)
        return min((self._peers.transfer_s(other, nbytes) for other in self._peers.linked()), default=FAR_S)

    def _home_s(self, id: str, head: str, nbytes: int) -> float:
        """The answer's way from ``id`` to the head."""
        if id == head:
            return 0.0
        return self._peers.transfer_s(id if head == self._context.device else head, nbytes)
