"""What the parts of a device share: the instant of the present event, the instructions so far, timers and settings.

One event is handled at a time and nothing in here outlives it but the settings, so the parts need no locks.

Most events change little, and a device that looked at everything after each would be slow. So two counters say what
may have changed since somebody last looked: ``here`` (queues, promises, segments) and ``there`` (neighbours and what
we ask of them). Whoever changes one of these counts; whoever derives something from them remembers the count.
"""

from bisect import bisect_right
from typing import Dict, List, Optional

from pamdi.core.allocation import DeviceAllocation, ModelSpec, SourceSpec
from pamdi.core.instructions import AnyInstruction, Note
from pamdi.core.limits import Limits
from pamdi.core.policy import Policy, policy_named
from pamdi.core.timers import Timers


class Context:
    """``device`` is our own id. ``now`` is set by the door (:meth:`pamdi.core.device.Device.handle`) alone."""

    def __init__(self, device: str, limits: Limits) -> None:
        self.device = device
        self.limits = limits
        self.now = 0.0
        self.here = 0
        self.there = 0
        self.out: List[AnyInstruction] = []
        self.timers = Timers()
        self.allocation: Optional[DeviceAllocation] = None
        self.policy: Policy = policy_named("pa-mdi")
        self.sources: Dict[str, SourceSpec] = {}
        self.models: Dict[str, ModelSpec] = {}
        self._classes: List[float] = []
        self.draining = False
        self.stopping = False

    def obey(self, allocation: DeviceAllocation) -> None:
        """Raises ConfigError, and changes nothing, for a policy that is not one of ours."""
        self.policy = policy_named(allocation.policy)
        self.allocation = allocation
        self.sources = {source.id: source for source in allocation.sources}
        self.models = {model.id: model for model in allocation.models}
        self._classes = sorted({source.urgency() for source in allocation.sources})
        self.here += 1
        self.there += 1

    def emit(self, instruction: AnyInstruction) -> None:
        self.out.append(instruction)

    def note(self, counter: str, text: str = "") -> None:
        self.out.append(Note(counter, text))

    def urgency_above(self, urgency: float) -> float:
        """The next higher class among the sources we know, or the same when there is none (the starvation bound)."""
        above = bisect_right(self._classes, urgency * (1 + 1e-12))
        return self._classes[above] if above < len(self._classes) else urgency
