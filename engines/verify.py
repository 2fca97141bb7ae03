"""Chained segments against the uncut model: are they the same function?

With graph optimisation off they are, bit for bit. With it on, the optimiser fuses across what is a cut elsewhere: the
stated tolerance is ``TOLERANCE`` of the largest output value (float32 has 1.2e-7 per rounding, and a deep model rounds
a thousand times).

The FP16 form of a model is another function, near the uncut one: see ``fp16_tolerance``.
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
FP16_ROUNDING = 2.0**-11  # the unit roundoff of IEEE 754 binary16
FP16_LAMBDA = 4.0


class Difference(NamedTuple):
    """Largest differences over all outputs; ``identical`` is bit for bit; ``of_largest``: against the largest finite
    value of the same output."""

    largest_absolute: float
    largest_relative: float
    identical: bool
    of_largest: float = 0.0


class Verdict(NamedTuple):
    """``runs``: by optimisation. ``good``: whether all is as it should be; ``sentence`` says by which tolerance."""

    runs: Dict[str, Difference]
    tolerance: float
    good: bool
    sentence: str


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


def fp16_tolerance(manifest: Manifest) -> float:
    """How far FP16 may be from float32, as a share of the largest output: lambda sqrt(n) u, the probabilistic bound of
    Higham and Mary (A New Approach to Probabilistic Rounding Error Analysis, SIAM J. Sci. Comput. 41(5), 2019) for n
    roundings of unit roundoff u, which lambda = 4 exceeds with a probability under 1e-3. Taken as n are the model's
    operators, each of which rounds its output once. It knows nothing of how the model itself enlarges errors."""
    operators = sum(max(unit.operators, 1) for unit in manifest.units)
    return FP16_LAMBDA * float(np.sqrt(operators)) * FP16_ROUNDING


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
    """``tensors`` may be halved: the uncut model is float32."""
    session = backend.session(path)
    names: List[str] = [output.name for output in session.get_outputs()]
    wide = {value.name for value in session.get_inputs() if value.type == "tensor(float)"}
    feed = {name: array.astype(np.float32) if name in wide else array for name, array in tensors.items()}
    return dict(zip(names, session.run(names, feed)))


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


def judge(manifest: Manifest, half: bool, outputs: Dict[str, Tuple[Arrays, Arrays]]) -> Verdict:
    """``outputs[optimisation]``: of the chain and of the uncut model, with graph optimisation "off" and "all". The FP16
    form is held against its own tolerance with both, the model itself against bits with it off."""
    runs = {name: compare(*pair) for name, pair in outputs.items()}
    if half:
        share, tolerance = max(one.of_largest for one in runs.values()), fp16_tolerance(manifest)
        good, what = share <= tolerance, "FP16 tolerance"
        source = (
            f" (4 sqrt(n) 2^-11 for {sum(max(u.operators, 1) for u in manifest.units)} operators: Higham, Mary 2019)"
        )
    else:
        share, tolerance = runs["all"].of_largest, TOLERANCE
        good, what, source = share <= tolerance, "tolerance with optimisation", ""
    within = "within" if good else "BEYOND"
    sentence = f"{within} the {what}: {share:.3g} of the largest output, at most {tolerance:.3g}{source}"
    return Verdict(runs, tolerance, good and (half or runs["off"].identical), sentence)


def _gaps(a: "np.ndarray", b: "np.ndarray") -> Tuple["np.ndarray", "np.ndarray"]:
    """|a - b| and |b|, elementwise. Equal infinities and two NaN do not differ; anything else that is not a number
    differs infinitely, against a size of 1, so that it can never look like agreement."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.isfinite(a) & np.isfinite(b)
    gap = np.where(same, 0.0, np.inf)
    gap[finite] = np.abs(a[finite] - b[finite])
    return gap, np.where(finite, np.abs(b), 1.0)
