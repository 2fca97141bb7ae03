"""Chained segments against the uncut model: are they the same function?

With graph optimisation off they are, bit for bit. With it on, the optimiser fuses across what is a cut elsewhere: the
stated tolerance is ``TOLERANCE`` of the largest output value (float32 has 1.2e-7 per rounding, and a deep model rounds
a thousand times).
"""

from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.core.segment import Segment
from pamdi.engines.backend import Arrays
from pamdi.engines.manifest import Manifest, read_manifest
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend

TOKENS = 64  # a vocabulary is larger
TOLERANCE = 1e-4


class Difference(NamedTuple):
    """Largest differences over all outputs; ``identical`` is bit for bit; ``of_largest``: against the largest finite
    value of the same output."""

    largest_absolute: float
    largest_relative: float
    identical: bool
    of_largest: float = 0.0


def run_chain(backend: OnnxRuntimeBackend, folder: Path, pairs: Sequence[Tuple[int, int]], tensors: Arrays) -> Arrays:
    """Run the segments one after the other; the outputs of one are the inputs of the next."""
    model = read_manifest(folder).model
    for first, stop in pairs:
        handle = backend.load(folder, Segment(model, first, stop))
        tensors = backend.run(handle, tensors)
        backend.unload(handle)
    return tensors


def covering_chain(manifest: Manifest) -> List[Tuple[int, int]]:
    """Segments of the manifest that cover all units in order, the shortest ones where there is a choice. Raises
    EngineError when no choice covers them."""
    chains: Dict[int, List[Tuple[int, int]]] = {len(manifest.units): []}
    for info in sorted(manifest.segments, key=lambda info: (-info.first, -info.stop)):
        if info.stop in chains:
            chains[info.first] = [(info.first, info.stop), *chains[info.stop]]
    if 0 not in chains:
        reached = {0}
        for info in sorted(manifest.segments, key=lambda info: info.first):
            if info.first in reached:
                reached.add(info.stop)
        raise EngineError(f"{manifest.model}: no segments lead on from unit {max(reached)}: export them")
    return chains[0]


def random_inputs(manifest: Manifest, batch: int = 2) -> Arrays:
    """Normal noise of the model's input shapes, the same on every call; whole numbers are tokens, 0 to 63."""
    noise = np.random.default_rng(0)
    inputs = {}
    for tensor in manifest.boundaries[0]:
        shape = [size if isinstance(size, int) else batch for size in tensor.shape]
        floating = tensor.dtype.startswith("float")
        drawn = noise.standard_normal(shape) if floating else noise.integers(0, TOKENS, shape)
        inputs[tensor.name] = drawn.astype(tensor.dtype)
    return inputs


def run_uncut(backend: OnnxRuntimeBackend, path: Path, tensors: Arrays) -> Arrays:
    session = backend.session(path)
    names: List[str] = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, tensors)))


def compare(chained: Arrays, uncut: Arrays) -> Difference:
    """Infinite where an output is missing, of another shape, or not a number on one side only."""
    absolute = relative = of_largest = 0.0
    identical = True
    for name in set(chained) | set(uncut):
        a, b = chained.get(name), uncut.get(name)
        if a is None or b is None or a.shape != b.shape:
            return Difference(float("inf"), float("inf"), False, float("inf"))
        identical = identical and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        gap, size = _gaps(a.astype(np.float64), b.astype(np.float64))
        largest = float(gap.max(initial=0.0))
        absolute = max(absolute, largest)
        of_largest = max(of_largest, largest / max(float(size.max(initial=0.0)), 1e-12))
        relative = max(relative, float((gap / np.maximum(size, 1e-12)).max(initial=0.0)))
    return Difference(absolute, relative, identical, of_largest)


def _gaps(a: "np.ndarray", b: "np.ndarray") -> Tuple["np.ndarray", "np.ndarray"]:
    """|a - b| and |b|, elementwise. Equal infinities and two NaN do not differ; anything else that is not a number
    differs infinitely, against a size of 1, so that it can never look like agreement."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.isfinite(a) & np.isfinite(b)
    gap = np.where(same, 0.0, np.inf)
    gap[finite] = np.abs(a[finite] - b[finite])
    return gap, np.where(finite, np.abs(b), 1.0)
