"""FP16 (and, where asked for, INT8) against FP32: per segment on the same inputs, and for the whole chain.

A segment's own error is measured on what enters it in FP32, so that errors do not add up unseen; the chain's is what a
work meets when every segment is converted and every boundary crosses the link in the lower precision. Where the last
output is a list of scores, the share of works whose best answer changes says more than any difference; where there are
labels, accuracy does.

Everything runs in onnxruntime on the CPU, whose arithmetic on FP16 values is FP32 with the results rounded: a board's
tensor cores, which add up in FP32 too, do nearly that; a board's own engine is judged by ``engines verify`` there.
INT8 is calibrated by entropy (S. Migacz, *8-bit inference with TensorRT*, GTC 2017) on one half of the inputs and
judged on the other; it is never made unless asked for.
"""

import tempfile
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from pamdi.calibration.converted import CONVERTERS
from pamdi.core.errors import EngineError
from pamdi.engines.backend import Arrays
from pamdi.engines.manifest import Manifest, checked_file, read_manifest
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
from pamdi.engines.verify import covering_chain, random_inputs

RANDOM_BATCH = 16
LABELS = "labels"


class Sample(NamedTuple):
    """Inputs by name, batch first; ``labels``, int [batch], or None; ``what`` they are, for people."""

    inputs: Arrays
    labels: Optional["np.ndarray"]
    what: str

    @property
    def size(self) -> int:
        return len(next(iter(self.inputs.values())))

    def part(self, begin: int, step: int) -> "Sample":
        labels = None if self.labels is None else self.labels[begin::step]
        return Sample({name: array[begin::step] for name, array in self.inputs.items()}, labels, self.what)


class Error(NamedTuple):
    """``max_abs``: the largest difference; ``relative_rms``: the differences' RMS over the FP32 values'; infinite where
    a value is no longer a number. ``top1_changed``: works whose largest score is elsewhere, None for other outputs."""

    max_abs: float
    relative_rms: float
    top1_changed: Optional[int] = None


class Result(NamedTuple):
    precision: str
    inputs: int
    segments: List[Tuple[int, int, Error]]
    chain: Error
    accuracy: Optional[float]
    accuracy_fp32: Optional[float]

    def document(self) -> Dict[str, Any]:
        """Plain values; ``null`` for what is infinite."""
        rows = [{"first": first, "stop": stop, **_plain(error)} for first, stop, error in self.segments]
        return {**self._asdict(), "segments": rows, "chain": _plain(self.chain)}


def sample_of(folder: Path, file: Optional[Path], labels: bool) -> Sample:
    """What to compare on. Raises EngineError for a file that does not fit the model."""
    manifest = read_manifest(folder)
    if file is not None:
        return _from_file(manifest, file, labels)
    if not labels:
        return Sample(random_inputs(manifest, RANDOM_BATCH), None, "random numbers")
    from pamdi.engines.digits import load

    (tensor,) = manifest.boundaries[0]
    if tuple(tensor.shape[1:]) != (3, 32, 32):
        raise EngineError(f"{manifest.model}: --labels without --inputs means the digits; this model takes others")
    images, numbers = load("test")
    return Sample({tensor.name: images}, numbers, "the test digits")


def compare_precisions(
    folder: Path, sample: Sample, precisions: Sequence[str], say: Callable[[str], None]
) -> List[Result]:
    """One result a precision. Raises EngineError in one line."""
    manifest = read_manifest(folder)
    with tempfile.TemporaryDirectory(prefix="pamdi-precision-") as scratch:
        return [_compare(folder, manifest, sample, name, Path(scratch), say) for name in precisions]


def _compare(
    folder: Path, manifest: Manifest, sample: Sample, precision: str, scratch: Path, say: Callable[[str], None]
) -> Result:
    convert, backend = CONVERTERS[precision], OnnxRuntimeBackend(1, "off")
    examples = sample
    if precision == "int8":
        if sample.size < 2:
            raise EngineError("int8 needs at least two inputs: one half calibrates, the other judges")
        examples, sample = sample.part(0, 2), sample.part(1, 2)
    exact, lower, shown = sample.inputs, sample.inputs, examples.inputs
    ends = {tensor.name for tensor in manifest.boundaries[-1]}
    segments: List[Tuple[int, int, Error]] = []
    for first, stop in covering_chain(manifest):
        info = manifest.segment(first, stop)
        path = checked_file(folder, info.onnx, info.sha256)
        converted = scratch / f"{precision}-{info.onnx}"
        session = backend.session(path)
        read = [entry.name for entry in session.get_inputs()] if precision == "int8" else []
        kept = convert(path, converted, {name: shown[name] for name in read})
        say(f"{precision}: segment {first}:{stop}" + "".join(f"\n  kept in fp32: {line}" for line in kept))
        small = backend.session(converted)
        after = _run(session, exact)
        segments.append((first, stop, error_between(_run(small, exact), after)))
        # What a segment does not read passes it by: a later one may.
        shown = shown if precision != "int8" else {**shown, **_run(session, shown)}
        exact, lower = {**exact, **after}, {**lower, **_run(small, lower)}
        converted.unlink()
    exact, lower = ({name: tensors[name] for name in ends} for tensors in (exact, lower))
    return Result(
        precision, sample.size, segments, error_between(lower, exact, scores=True),
        _accuracy(lower, sample.labels), _accuracy(exact, sample.labels),
    )  # fmt: skip


def _run(session: Any, tensors: Arrays) -> Arrays:
    """With the inputs in whatever float type the session takes: a boundary may be FP16."""
    types = {"tensor(float16)": np.float16, "tensor(float)": np.float32}
    given = {
        entry.name: tensors[entry.name].astype(types.get(entry.type, tensors[entry.name].dtype), copy=False)
        for entry in session.get_inputs()
    }
    names = [entry.name for entry in session.get_outputs()]
    return dict(zip(names, session.run(names, given)))


def error_between(lower: Arrays, exact: Arrays, scores: bool = False) -> Error:
    """Over all tensors together. ``scores``: whether a single float [batch, n] output's best entry is compared."""
    largest, squares, sizes = 0.0, 0.0, 0.0
    for name, array in exact.items():
        a, b = lower[name].astype(np.float64), array.astype(np.float64)
        if not np.isfinite(a).all() and np.isfinite(b).all():
            return Error(float("inf"), float("inf"), len(b) if scores else None)
        largest = max(largest, float(np.abs(a - b).max(initial=0.0)))
        squares, sizes = squares + float(((a - b) ** 2).sum()), sizes + float((b**2).sum())
    changed = None
    if scores and len(exact) == 1:
        ((name, array),) = exact.items()
        if array.ndim == 2:
            changed = int((lower[name].argmax(1) != array.argmax(1)).sum())
    return Error(largest, (squares / sizes) ** 0.5 if sizes else 0.0, changed)


def _accuracy(outputs: Arrays, labels: Optional["np.ndarray"]) -> Optional[float]:
    if labels is None:
        return None
    (scores,) = outputs.values()
    return float((scores.argmax(1) == labels).mean())


def _from_file(manifest: Manifest, file: Path, labels: bool) -> Sample:
    try:
        with np.load(file) as loaded:
            arrays: Arrays = {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EngineError(f"{file}: not an .npz file of inputs by name: save it with numpy.savez") from error
    wanted = {tensor.name: tensor for tensor in manifest.boundaries[0]}
    if labels and LABELS not in arrays:
        raise EngineError(f"{file}: --labels, but there is no array `labels` in it: add it, int [batch]")
    numbers = arrays.pop(LABELS, None)
    if set(arrays) != set(wanted):
        raise EngineError(f"{file}: holds {sorted(arrays)}; {manifest.model} takes {sorted(wanted)}")
    counts = {len(array) for array in [*arrays.values(), *([numbers] if labels and numbers is not None else [])]}
    if len(counts) != 1 or 0 in counts:
        raise EngineError(f"{file}: its arrays have different or no lengths {sorted(counts)}: one entry per input")
    return Sample(arrays, numbers if labels else None, file.name)


def _plain(error: Error) -> Dict[str, Any]:
    return {name: None if value == float("inf") else value for name, value in error._asdict().items()}
