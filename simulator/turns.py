"""A radio channel whose stations take turns, frame by frame: what is between two stations knows no priority.

``server.py`` lets the most urgent frame of *all* stations go first, which no real radio does: a station knows what the
others have to send no sooner than they do. Here every station that has something to send gets a frame in its turn (as
802.11's equal chances do on average), and puts its own most urgent tensor first. Messages without a payload still go
at the next frame's end. So the two models are the best and the worst that can be said of a shared channel;
``[run] stations`` picks one. One event per frame: for tens of devices, not for thousands.
"""

import heapq
from collections import deque
from typing import Any, Deque, Dict, List, Tuple

from pamdi.simulator.heap import Heap
from pamdi.simulator.server import FRAME_BYTES, Line, Server, Transfer


class Turns(Server):
    def __init__(self, heap: Heap) -> None:
        super().__init__(heap)
        self._queues: Dict[str, List[Tuple[float, int, Transfer]]] = {}
        self._turn: Deque[str] = deque()
        self._sender = ""

    def say(self, line: Line, nbytes: int) -> float:
        seconds = nbytes / line.rate_bytes_per_s
        line.busy_s += seconds
        self.busy_s += seconds
        self.free_at = max(self.free_at, self._heap.now) + seconds
        return self.free_at

    def put(self, transfer: Transfer) -> None:
        self._puts += 1
        station = transfer.line.a
        queue = self._queues.setdefault(station, [])
        if not queue and station != self._sender:
            self._turn.append(station)
        heapq.heappush(queue, (-transfer.urgency, self._puts, transfer))
        if not self._sender:
            self._next()

    def rate_changes(self, line: Line, rate_bytes_per_s: float) -> None:
        line.rate_bytes_per_s = rate_bytes_per_s

    def drop_dead(self) -> None:
        """The frame on its way ends; what is dead is left out when its turn comes."""

    def _next(self) -> None:
        self._sender = ""
        while self._turn:
            station = self._turn.popleft()
            queue = self._queues[station]
            while queue and not queue[0][2].alive(queue[0][2].parcel):
                heapq.heappop(queue)
            if queue:
                entry = heapq.heappop(queue)
                nbytes = min(entry[2].left, FRAME_BYTES)
                self.free_at = max(self.free_at, self._heap.now) + nbytes / entry[2].line.rate_bytes_per_s
                self._sender = station
                self._heap.put(self.free_at, self._sent, (entry, nbytes))
                return

    def _sent(self, argument: Any) -> None:
        entry, nbytes = argument
        transfer, station = entry[2], entry[2].line.a
        self._account(transfer, nbytes)
        transfer.left -= nbytes
        queue = self._queues[station]
        if transfer.left > 0:
            heapq.heappush(queue, entry)
        if queue:
            self._turn.append(station)
        self._next()
        if transfer.left <= 0:
            transfer.done(transfer)
