"""When the core wants to be woken: a heap of named moments. Stale ones are cheap: their handler finds nothing to do."""

import heapq
from typing import Any, Callable, List, Optional, Tuple


class Timers:
    """Moments in the caller's clock, each with a function and its argument. Equal moments fire in the order set."""

    def __init__(self) -> None:
        self._heap: List[Tuple[float, int, Callable[[Any], None], Any]] = []
        self._count = 0

    def set(self, at: float, call: Callable[[Any], None], argument: Any = None) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, call, argument))

    def next_at(self) -> Optional[float]:
        return self._heap[0][0] if self._heap else None

    def fire(self, now: float) -> None:
        """Call what is due. A handler that sets a new moment at or before ``now`` is called for it in this pass."""
        while self._heap and self._heap[0][0] <= now:
            _, _, call, argument = heapq.heappop(self._heap)
            call(argument)
