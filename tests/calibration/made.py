"""A small table that adds up, and a back end on a clock that only it moves."""

from pathlib import Path
from typing import Any, Dict, List, Mapping

import msgspec
import numpy as np

from pamdi.calibration.table import Chain, ModelTable, Run, Table
from pamdi.core.segment import Segment
from pamdi.engines.backend import Arrays
from pamdi.engines.stub_backend import StubBackend


def model_table(id: str = "m", **changed: Any) -> ModelTable:
    """Two units of 10 and 20 ms, measured."""
    model = ModelTable(
        id=id, measured=True, source="measured", date="2026-11-25", backend="stub 1 on none", precision="none",
        units=["a", "b"], bytes=[8, 16, 4], memory=[100, 200],
        runs=[Run(0, 1, 1, 0.010, 0.009, 0.011, 50), Run(1, 2, 1, 0.020, 0.019, 0.021, 50)],
        chains=[Chain(1, 0.031, 0.030, 0.032, 50)],
    )  # fmt: skip
    return msgspec.structs.replace(model, **changed)


def table(*models: ModelTable, **changed: Any) -> Table:
    return msgspec.structs.replace(Table("board", model=list(models) or [model_table()]), **changed)


class TimedBackend(StubBackend):
    """Segment i takes ``seconds[i]`` per input, and every ``slow_every``-th run ten times that, on ``clock``."""

    def __init__(self, seconds: List[float], slow_every: int = 0) -> None:
        super().__init__()
        self.now = 0.0
        self.factor = 1.0
        self._unit_s, self._slow_every = seconds, slow_every
        self._runs = 0
        self.loaded: Dict[Segment, int] = {}

    def clock(self) -> float:
        return self.now

    def load(self, folder: Path, segment: Segment) -> Any:
        self.loaded[segment] = self.loaded.get(segment, 0) + 1
        return super().load(folder, segment)

    def run(self, handle: Any, tensors: Mapping[str, "np.ndarray"], urgent: bool = False) -> Arrays:
        self._runs += 1
        batch = next(iter(tensors.values())).shape[0]
        takes_s = sum(self._unit_s[handle.segment.first : handle.segment.stop]) * batch * self.factor
        slow = self._slow_every and self._runs % self._slow_every == 0
        self.now += 10 * takes_s if slow else takes_s
        return super().run(handle, tensors, urgent)

    def unload(self, handle: Any) -> None:
        self.loaded[handle.segment] -= 1
