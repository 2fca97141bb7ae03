"""Chained segments against the uncut model: are they the same function?

With graph optimisation off they are, bit for bit. With it on, the optimiser fuses across what is a cut elsewhere, and
the difference is what is reported here.
"""

from pathlib import Path
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.core.segment import Segment
from pamdi.engines.backend import Arrays
from pamdi.engines.manifest import Manifest, read_manifest
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend


class Difference(NamedTuple):
    """Largest differences over all outputs; ``identical`` is bit for bit."""

    largest_absolute: float
    largest_relative: float
    identical: bool


def run_chain(backend: OnnxRuntimeBackend, folder: Path, pairs: Sequence[Tuple[int, int]], tensors: Arrays) -> Arrays:
    """Run the segments one after the other; the outputs of one are the inputs of the next."""
    model = read_manifest(folder).model
    for first, stop in pairs:
        handle = backend.load(folder, Segment(model, first, stop))
        tensors = backend.run(handle, tensors)
        backend.unload(handle)
    return tensors


def covering_chain(manifest: Manifest) -> List[Tuple[int, int]]:
    """Segments of the manifest that cover all units in order. Raises EngineError when there is a gap."""
    chain: List[Tuple[int, int]] = []
    at = 0
    while at < len(manifest.units):
        following = [info.stop for info in manifest.segments if info.first == at]
        if not following:
            raise EngineError(f"{manifest.model}: no segment starts at unit {at}: export it")
        chain.append((at, min(following)))
        at = min(following)
    return chain


def random_inputs(manifest: Manifest, batch: int = 2) -> Arrays:
    """Normal noise of the model's input shapes, the same on every call."""
    noise = np.random.default_rng(0)
    return {
        tensor.name: noise.standard_normal([s if isinstance(s, int) else batch for s in tensor.shape]).astype(
            tensor.dtype
        )
        for tensor in manifest.boundaries[0]
    }


def run_uncut(backend: OnnxRuntimeBackend, path: Path, tensors: Arrays) -> Arrays:
    session = backend.session(path)
    names: List[str] = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, tensors)))


def compare(chained: Arrays, uncut: Arrays) -> Difference:
    absolute = relative = 0.0
    identical = set(chained) == set(uncut)
    for name in set(chained) & set(uncut):
        a, b = chained[name], uncut[name]
        identical = identical and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
        absolute = max(absolute, float(gap.max(initial=0.0)))
        relative = max(relative, float((gap / np.maximum(np.abs(b.astype(np.float64)), 1e-12)).max(initial=0.0)))
    return Difference(absolute, relative, identical)
