"""Emulation: a back end whose every run is real, and then padded to the time that another board would take.

The pad ends at an instant, not after a duration, so that what the real run took does not add up; the last
half-millisecond is waited in short sleeps, because a sleep may overshoot.
"""

import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence

import numpy as np

from pamdi.core.segment import Segment
from pamdi.engines.backend import Backend, Outcome, one_by_one


class PacedBackend:
    """``seconds[segment]``: what the emulated board takes. A run that is really slower is left as it is."""

    def __init__(
        self, inner: Backend, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._inner, self._clock, self._sleep = inner, clock, sleep
        self.seconds: Dict[Segment, float] = {}

    @property
    def counters(self) -> Mapping[str, int]:
        return self._inner.counters

    def load(self, folder: Path, segment: Segment) -> Any:
        return (self._inner.load(folder, segment), segment)

    def run(self, handle: Any, tensors: Mapping[str, "np.ndarray"], urgent: bool = False) -> Mapping[str, "np.ndarray"]:
        inner, segment = handle
        until = self._clock() + self.seconds.get(segment, 0.0)
        outputs = self._inner.run(inner, tensors, urgent)
        while True:
            left = until - self._clock()
            if left <= 0:
                return outputs
            self._sleep(left - 0.0003 if left > 0.0005 else 0.00005)

    def batch_max(self, handle: Any) -> int:
        return 1

    def run_together(
        self, handle: Any, works: Sequence[Mapping[str, "np.ndarray"]], urgent: bool = False
    ) -> List[Outcome]:
        return one_by_one(self, handle, works, urgent)

    def unload(self, handle: Any) -> None:
        self._inner.unload(handle[0])

    def describe(self) -> Dict[str, str]:
        return {**self._inner.describe(), "emulation": "every run is padded to the emulated board's time"}
