"""When the core wants to be woken: a heap of named moments.

A moment is named by what is called and with what: setting it again moves it, dropping it forgets it. A heap cannot
forget in the middle, so forgotten entries stay, crossed out, until they outnumber the others and are swept: the heap
never holds more than about twice what is still awaited, however many works come and go while one of them waits.
"""

import heapq
from typing import Any, Callable, Dict, List, Tuple

SWEEP_BEYOND = 64
NEVER = float("inf")
Call = Callable[[Any], None]
AT, NAME = 0, 2  # of an entry: [instant, how many were set before, (call, argument) or None when crossed out]


class Timers:
    """Moments in the caller's clock, each a function and its (hashable) argument. Equal moments fire in the order
    set. ``next_at``: the first of them, infinite if there is none; whoever sets or drops keeps it true, since it is
    read at every event and most events set nothing."""

    def __init__(self) -> None:
        self._heap: List[List[Any]] = []
        self._live: Dict[Tuple[Call, Any], List[Any]] = {}
        self._count = 0
        self.next_at = NEVER

    def __len__(self) -> int:
        """How many entries are kept, swept or not."""
        return len(self._heap)

    def set(self, at: float, call: Call, argument: Any = None) -> None:
        name, live = (call, argument), self._live
        before = live.get(name)
        if before is not None:
            before[NAME] = None
        self._count += 1
        live[name] = entry = [at, self._count, name]
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(live) + SWEEP_BEYOND:
            self._heap = [entry for entry in self._heap if entry[NAME] is not None]
            heapq.heapify(self._heap)
        if at < self.next_at:
            self.next_at = at
        elif before is not None and before[AT] <= self.next_at:
            self._look()

    def drop(self, call: Call, argument: Any = None) -> None:
        entry = self._live.pop((call, argument), None)
        if entry is not None:
            entry[NAME] = None
            if entry[AT] <= self.next_at:
                self._look()

    def fire(self, now: float) -> None:
        """Call what is due. A handler that sets a new moment at or before ``now`` is called for it in this pass."""
        while self._heap and self._heap[0][AT] <= now:
            name = heapq.heappop(self._heap)[NAME]
            if name is not None:
                del self._live[name]
                call, argument = name
                call(argument)
        self._look()

    def _look(self) -> None:
        """The first may have gone."""
        heap = self._heap
        while heap and heap[0][NAME] is None:
            heapq.heappop(heap)
        self.next_at = heap[0][AT] if heap else NEVER
