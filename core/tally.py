"""How much waits on this device: works queued and works promised, counted by class and boundary as they come and go.

The counts are few however long the queue is, so room and backlog cost the same at any load. Seconds are not counted
but derived, since what a run of segments takes is measured anew with every segment.
"""

from typing import Dict, Tuple

from pamdi.core.slots import Slots

Place = Tuple[float, str, int]  # class, model, boundary


class Tally:
    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._counts: Dict[Place, int] = {}
        self.works = 0

    def add(self, klass: float, model: str, boundary: int) -> None:
        place = (klass, model, boundary)
        self._counts[place] = self._counts.get(place, 0) + 1
        self.works += 1

    def remove(self, klass: float, model: str, boundary: int) -> None:
        place = (klass, model, boundary)
        self.works -= 1
        if self._counts[place] == 1:
            del self._counts[place]
        else:
            self._counts[place] -= 1

    def at_or_above(self, klass: float) -> int:
        works = 0
        for (other, _, _), count in self._counts.items():
            if other >= klass:
                works += count
        return works

    def anything_above(self, klass: float) -> bool:
        return bool(self._counts) and max(self._counts)[0] > klass

    def holds(self, model: str, boundary: int) -> bool:
        """Whether any work waits for the segment that starts at ``boundary``."""
        return any(m == model and b == boundary for _, m, b in self._counts)

    def seconds_by_class(self) -> Dict[float, float]:
        """The runs of all that waits."""
        seconds: Dict[float, float] = {}
        for (klass, model, boundary), count in self._counts.items():
            seconds[klass] = seconds.get(klass, 0.0) + count * self._slots.run_seconds(model, boundary)
        return seconds

    def counts(self) -> Dict[Place, int]:
        return dict(self._counts)
