"""What every engine back end does. One contract test runs against all of them.

One thread runs and unloads; another may load at the same time, a third prepare. Handles are the back end's own; a
handle is good until unloaded. Answers are arrays by name, or look like them (``resident``), and may be read by any
thread, for as long as anybody holds them.
"""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Protocol, Sequence, Tuple, Union, runtime_checkable

import numpy as np

from pamdi.core.errors import BadInput
from pamdi.core.segment import Segment
from pamdi.engines.manifest import Manifest, TensorInfo

Arrays = Dict[str, "np.ndarray"]
Outcome = Union[Mapping[str, "np.ndarray"], Exception]


class Backend(Protocol):
    """Runs segments of models that lie in folders with a ``model.json``."""

    @property
    def counters(self) -> Mapping[str, int]:
        """For the device's statistics; nothing depends on them."""

    def load(self, folder: Path, segment: Segment) -> Any:
        """Make ``segment`` ready and return its handle. Raises EngineError: what, where, how to mend."""

    def run(self, handle: Any, tensors: Mapping[str, "np.ndarray"], urgent: bool = False) -> Mapping[str, "np.ndarray"]:
        """The segment's outputs for these inputs. ``urgent``: before others, where the hardware can tell them apart.
        Raises BadInput when the inputs are not what the manifest says."""

    def batch_max(self, handle: Any) -> int:
        """How many single inputs its engine was built to take at once: 1 where it says nothing."""

    def run_together(
        self, handle: Any, works: Sequence[Mapping[str, "np.ndarray"]], urgent: bool = False
    ) -> List[Outcome]:
        """Each work's outputs, or why it has none, in order; as one batch where the engine takes it. Raises nothing:
        a work's failure is its own."""

    def unload(self, handle: Any) -> None:
        """Give back everything that ``load`` took."""

    def describe(self) -> Dict[str, str]:
        """Name, version, precision and where it runs, for people."""


@runtime_checkable
class Prepares(Protocol):
    """A back end whose inputs travel: they may be sent ahead."""

    def prepare(self, handle: Any, works: Sequence[Mapping[str, "np.ndarray"]]) -> None:
        """A hint: a run of ``handle`` for these works is likely to come next, so what they need may be on its way while
        another computes. Nobody waits for it, and a run for other works is as good as without. By any thread; may raise
        what ``run`` would."""


def check_tensors(tensors: Mapping[str, Any], expected: Tuple[TensorInfo, ...], what: str) -> None:
    """Raises BadInput naming the first tensor that is missing, of another dtype or of another shape."""
    names = {tensor.name for tensor in expected}
    if set(tensors) != names:
        raise BadInput(f"{what}: inputs are {sorted(tensors)}; expected {sorted(names)}")
    batches = set()
    for tensor in expected:
        array = tensors[tensor.name]
        if array.dtype.name != tensor.dtype:
            raise BadInput(f"{what}: {tensor.name} is {array.dtype.name}; expected {tensor.dtype}")
        if array.ndim != len(tensor.shape) or any(
            isinstance(want, int) and have != want for have, want in zip(array.shape, tensor.shape)
        ):
            raise BadInput(f"{what}: {tensor.name} has shape {list(array.shape)}; expected {list(tensor.shape)}")
        if tensor.shape and tensor.shape[0] == "batch":
            batches.add(array.shape[0])
    if len(batches) > 1 or 0 in batches:
        raise BadInput(f"{what}: batch sizes {sorted(batches)}; expected one, at least 1")


def entering(manifest: Manifest, segment: Segment) -> Tuple[TensorInfo, ...]:
    return manifest.boundaries[segment.first]


def one_by_one(
    backend: Backend, handle: Any, works: Sequence[Mapping[str, "np.ndarray"]], urgent: bool
) -> List[Outcome]:
    """``run_together`` of a back end that gains nothing by batches."""
    outcomes: List[Outcome] = []
    for work in works:
        try:
            outcomes.append(backend.run(handle, work, urgent))
        except Exception as error:  # a vendor's runtime may raise anything
            outcomes.append(error)
    return outcomes
