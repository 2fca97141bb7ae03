"""When the core wants to be woken: a heap of named moments.

A moment is named by what is called and with what: setting it again moves it, dropping it forgets it. A heap cannot
forget in the middle, so forgotten entries stay until they outnumber the others and are swept: the heap never holds
more than about twice what is still awaited, however many works come and go while one of them waits.
"""

import heapq
from typing import Any, Callable, Dict, List, Optional, Tuple

SWEEP_BEYOND = 64
Call = Callable[[Any], None]


class Timers:
    """Moments in the caller's clock, each a function and its (hashable) argument. Equal moments fire in the order
    set."""

    def __init__(self) -> None:
        self._heap: List[Tuple[float, int, Call, Any]] = []
        self._live: Dict[Tuple[Call, Any], int] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many entries are kept, swept or not."""
        return len(self._heap)

    def set(self, at: float, call: Call, argument: Any = None) -> None:
        self._count += 1
        self._live[call, argument] = self._count
        heapq.heappush(self._heap, (at, self._count, call, argument))
        if len(self._heap) > 2 * len(self._live) + SWEEP_BEYOND:
            self._heap = [entry for entry in self._heap if self._live.get(entry[2:]) == entry[1]]
            heapq.heapify(self._heap)

    def drop(self, call: Call, argument: Any = None) -> None:
        self._live.pop((call, argument), None)

    def next_at(self) -> Optional[float]:
        heap, live = self._heap, self._live
        while heap and live.get(heap[0][2:]) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def fire(self, now: float) -> None:
        """Call what is due. A handler that sets a new moment at or before ``now`` is called for it in this pass."""
        while self._heap and self._heap[0][0] <= now:
            _, count, call, argument = heapq.heappop(self._heap)
            if self._live.get((call, argument)) == count:
                del self._live[call, argument]
                call(argument)
