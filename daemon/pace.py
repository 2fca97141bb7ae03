"""Emulation of a slower network: a link's rate and its delay. Off by default; a link without them does not come here.

Rate: a token bucket that holds one frame. More would leave in a burst, fill the kernel's buffer and become a queue
that knows no urgency. Timers are coarse (1 ms): a frame may leave half a tick early, and what a late timer cost is
given back to the frames behind, so that the mean rate is the stated one.

Delay: what has arrived is handed over ``delay_s`` later, in order.
"""

from collections import deque
from typing import Any, Callable, Deque, Optional, Tuple

TICK_S = 0.001
LATE_S_MAX = 0.02  # how much lateness is given back: more is a machine that slept, not a timer


class Pace:
    """When the next frame may leave. Time is an argument, as everywhere that time can be one."""

    def __init__(self, rate_bytes_per_s: float) -> None:
        self._rate_bytes_per_s = rate_bytes_per_s
        self._free_at = 0.0
        self._rested = True

    def wait_s(self, now: float) -> float:
        """Seconds until the next frame may leave; 0 is now."""
        left_s = self._free_at - now
        return 0.0 if left_s < TICK_S / 2 else left_s

    def spend(self, nbytes: int, now: float) -> None:
        """A frame of ``nbytes`` leaves now."""
        earliest = now if self._rested else now - LATE_S_MAX
        self._rested = False
        self._free_at = max(self._free_at, earliest) + nbytes / self._rate_bytes_per_s

    def rest(self) -> None:
        """Nothing waits any more: time from here on is not lateness, and is not given back."""
        self._rested = True


class Delay:
    """Things that are handed over later, first in, first out, on one timer."""

    def __init__(self, delay_s: float, clock: Callable[[], float], call_later: Callable[..., Any]) -> None:
        self.delay_s = delay_s
        self._clock, self._call_later = clock, call_later
        self._waiting: Deque[Tuple[float, Callable[[], None]]] = deque()
        self._timer: Optional[Any] = None

    def put(self, hand_over: Callable[[], None]) -> None:
        self._waiting.append((self._clock() + self.delay_s, hand_over))
        self._arm()

    def cancel(self) -> None:
        """What is on its way is lost, as on a cable that is cut."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = self._call_later(max(0.0, self._waiting[0][0] - self._clock()), self._due)

    def _due(self) -> None:
        self._timer = None
        while self._waiting and self._waiting[0][0] < self._clock() + TICK_S / 2:
            self._waiting.popleft()[1]()
        self._arm()
