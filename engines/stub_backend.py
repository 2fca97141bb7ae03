"""A back end that computes nothing: it takes a stated time and returns zeros of the right shape. For tests of
everything around inference, and for machines without any runtime."""

import time
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from pamdi.core.segment import Segment
from pamdi.engines.backend import Arrays, Outcome, check_tensors, one_by_one
from pamdi.engines.manifest import TensorInfo, read_manifest


class Loaded(NamedTuple):
    segment: Segment
    inputs: Tuple[TensorInfo, ...]
    outputs: Tuple[TensorInfo, ...]


class StubBackend:
    """``seconds``: how long one unit takes."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    @property
    def counters(self) -> Mapping[str, int]:
        return {}

    def load(self, folder: Path, segment: Segment) -> Loaded:
        manifest = read_manifest(folder)
        manifest.segment(segment.first, segment.stop)
        return Loaded(segment, manifest.boundaries[segment.first], manifest.boundaries[segment.stop])

    def run(self, handle: Loaded, tensors: Mapping[str, "np.ndarray"], urgent: bool = False) -> Arrays:
        check_tensors(tensors, handle.inputs, str(handle.segment))
        batch = next(iter(tensors.values())).shape[0]
        if self._seconds:
            time.sleep(self._seconds * (handle.segment.stop - handle.segment.first))
        return {
            tensor.name: np.zeros([size if isinstance(size, int) else batch for size in tensor.shape], tensor.dtype)
            for tensor in handle.outputs
        }

    def batch_max(self, handle: Loaded) -> int:
        return 1

    def run_together(
        self, handle: Loaded, works: Sequence[Mapping[str, "np.ndarray"]], urgent: bool = False
    ) -> List[Outcome]:
        return one_by_one(self, handle, works, urgent)

    def unload(self, handle: Loaded) -> None:
        """Nothing was taken."""

    def describe(self) -> Dict[str, str]:
        return {"name": "stub", "version": "1", "precision": "none", "device": "none"}
