"""A link (or a medium that several links share) as a server of frames, without an event for each frame.

What is modelled: one frame of at most 16,384 bytes at a time, each taking its bytes / rate; at every frame's end the
most urgent message goes on, messages without a payload before all, equals in the order they came. So an urgent tensor
overtakes a normal one between two frames, and never within one.

What is computed: a tensor in service has a planned end. Whatever may delay it (a message without payload, a more urgent
tensor) arrives at a known instant, hence the frame's end at which it cuts in is known, and the plan moves. Messages
without a payload can be overtaken by nobody, so their end is known when they come: they need no event here at all.
``tests/simulator/naive_link.py`` does the same frame by frame, and a test says that the ends are equal.
"""

import heapq
import math
from typing import Any, Callable, List, Optional, Tuple

import msgspec

from pamdi.simulator.heap import Heap

FRAME_BYTES = 16_384


class Line:
    """One directed link: its ``server``, its rate and delay at present, and how long it has carried something."""

    __slots__ = ("a", "b", "busy_s", "delay_s", "nominal_bytes_per_s", "rate_bytes_per_s", "server")

    def __init__(self, a: str, b: str, rate_bytes_per_s: float, delay_s: float, server: "Server") -> None:
        self.a, self.b = a, b
        self.rate_bytes_per_s = self.nominal_bytes_per_s = rate_bytes_per_s
        self.delay_s = delay_s
        self.server = server
        self.busy_s = 0.0


class Transfer(msgspec.Struct, eq=False):
    """A tensor on one line. ``left`` bytes as of ``start``; ``done(self)`` is called when its last byte has left.
    ``alive(parcel)`` False: its connection is gone, and it need not be sent."""

    line: Line
    left: float
    urgency: float
    done: Callable[[Any], None]
    alive: Callable[[Any], bool]
    parcel: Any
    start: float = 0.0
    end: float = 0.0
    plan: int = 0
    sequence: int = 0


class Server:
    """``free_at``: until when what cannot be overtaken any more keeps it busy. ``busy_s``: seconds it has worked."""

    def __init__(self, heap: Heap) -> None:
        self._heap = heap
        self._current: Optional[Transfer] = None
        self._waiting: List[Tuple[float, int, Transfer]] = []
        self._puts = 0
        self.free_at = 0.0
        self.busy_s = 0.0

    def say(self, line: Line, nbytes: int) -> float:
        """A message without a payload: the instant when it has left. It begins at the next frame's end."""
        seconds = nbytes / line.rate_bytes_per_s
        line.busy_s += seconds
        self.busy_s += seconds
        now, current = self._heap.now, self._current
        if current is None:
            begin = self.free_at if self.free_at > now else now
            self.free_at = begin + seconds
            return self.free_at
        if not self._pause(current, now):  # its last frame is on the way
            self.free_at = max(current.end, self.free_at) + seconds
            return self.free_at
        current.start += seconds
        current.end += seconds
        return current.start

    def put(self, transfer: Transfer) -> None:
        """A tensor wants to leave."""
        self._puts += 1
        transfer.sequence = self._puts
        current, now = self._current, self._heap.now
        if current is None:
            self._begin(transfer, max(now, self.free_at))
        elif transfer.urgency > current.urgency and self._pause(current, now):
            self._set_aside(current)
            self._begin(transfer, current.start)
        else:
            heapq.heappush(self._waiting, (-transfer.urgency, transfer.sequence, transfer))

    def rate_changes(self, line: Line, rate_bytes_per_s: float) -> None:
        """From the next frame on."""
        current = self._current
        paused = current is not None and current.line is line and self._pause(current, self._heap.now)
        line.rate_bytes_per_s = rate_bytes_per_s
        if paused and current is not None:
            self._begin(current, current.start)

    def drop_dead(self) -> None:
        """A connection is gone: what it was sending stops at the next frame's end."""
        current = self._current
        if current is not None and not current.alive(current.parcel):
            self._current = None
            until = current.start if self._pause(current, self._heap.now) else current.end
            self.free_at = max(self.free_at, until)
            self._next()

    def _begin(self, transfer: Transfer, at: float) -> None:
        transfer.start = at
        transfer.end = at + transfer.left / transfer.line.rate_bytes_per_s
        transfer.plan += 1
        self._current = transfer
        self._heap.put(transfer.end, self._served, (transfer, transfer.plan))

    def _served(self, planned: Tuple[Transfer, int]) -> None:
        transfer, plan = planned
        if transfer is not self._current or plan != transfer.plan:
            return
        if transfer.end > self._heap.now:  # something cut in meanwhile
            self._heap.put(transfer.end, self._served, planned)
            return
        self._account(transfer, transfer.left)
        self._current = None
        self._next()
        transfer.done(transfer)

    def _next(self) -> None:
        while self._waiting:
            transfer = heapq.heappop(self._waiting)[2]
            if transfer.alive(transfer.parcel):
                self._begin(transfer, max(self._heap.now, self.free_at))
                return

    def _set_aside(self, transfer: Transfer) -> None:
        """It keeps its place among its equals."""
        transfer.plan += 1
        heapq.heappush(self._waiting, (-transfer.urgency, transfer.sequence, transfer))

    def _pause(self, transfer: Transfer, now: float) -> bool:
        """Count the frames that have begun as sent, so that ``start`` is the end of the last of them. False: the rest
        is one frame that is on the way, or nothing, and nobody can cut in."""
        if now <= transfer.start:
            return True
        frame_s = FRAME_BYTES / transfer.line.rate_bytes_per_s
        frames = math.ceil((now - transfer.start) / frame_s)
        if frames * FRAME_BYTES >= transfer.left:
            return False
        transfer.start += frames * frame_s
        transfer.left -= frames * FRAME_BYTES
        self._account(transfer, frames * FRAME_BYTES)
        return True

    def _account(self, transfer: Transfer, nbytes: float) -> None:
        seconds = nbytes / transfer.line.rate_bytes_per_s
        transfer.line.busy_s += seconds
        self.busy_s += seconds
