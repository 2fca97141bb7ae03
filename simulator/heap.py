"""Virtual time: a heap of things that will happen, keyed (time, rank, sequence), so that runs repeat.

Of things at the same instant the lower rank goes first, then what was put first. An *event* of the simulator is one pop
of this heap.
"""

import math
from heapq import heappop, heappush
from typing import Any, Callable, List, NamedTuple

FAULT, WORLD, WAKE = 0, 1, 2  # ranks: a fault comes before what it spoils, an alarm after what makes it needless
STRIDE = range(1, 65)


class Entry(NamedTuple):
    """``call(argument)`` happens at ``at`` seconds."""

    at: float
    rank: int
    sequence: int
    call: Callable[[Any], None]
    argument: Any


class Heap:
    """``now``: the instant of the present event, in seconds. ``pops``: events so far."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pops = 0
        self._entries: List[Entry] = []
        self._puts = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, at: float, call: Callable[[Any], None], argument: Any = None, rank: int = WORLD) -> None:
        """What is put for the past happens now."""
        self._puts += 1
        now = self.now
        entry = (at if at > now else now, rank, self._puts, call, argument)  # a plain tuple: half the time of an Entry
        heappush(self._entries, entry)  # type: ignore[misc]

    def run(self, until: float, stop: Callable[[], bool]) -> None:
        """Until ``until``, or until ``stop()`` says so; it is asked after every 64th event."""
        entries = self._entries
        while entries and entries[0][0] <= until:
            for pops in STRIDE:  # noqa: B007 - counted on after the loop
                self.now, _, _, call, argument = heappop(entries)
                call(argument)
                if not entries or entries[0][0] > until:
                    break
            self.pops += pops
            if stop():
                return
        if self.now < until < math.inf:
            self.now = until
