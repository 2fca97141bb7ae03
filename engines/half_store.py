"""A model's folder in FP16: every segment halved, and the tensors between them too, so that half the bytes travel.

The new folder is a model of its own: all devices that share work on it must agree on what crosses its boundaries. The
model's own inputs and outputs stay float32 unless asked otherwise, so that clients need not change. What was kept in
FP32, and how far each halved segment is from the original on the same inputs, lies beside in ``half.json``, whose
digest is in the manifest, under its seal and its signatures.
"""

import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, NamedTuple, Tuple

import msgspec
import numpy as np

from pamdi.core.errors import EngineError
from pamdi.core.segment import Segment
from pamdi.engines.backend import Arrays
from pamdi.engines.half import Half, to_half
from pamdi.engines.half_range import check_range
from pamdi.engines.manifest import (
    HALF,
    Manifest,
    SegmentInfo,
    TensorInfo,
    checked_file,
    checked_segment,
    read_manifest,
    sha256_of,
)
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
from pamdi.engines.store import Store

PROBE_BATCH = 2


class HalfSegment(msgspec.Struct, frozen=True):
    """``max_abs_error``: largest difference from the float32 segment over its outputs, both fed the float32 chain's
    tensors, run by onnxruntime. None where no chain of segments leads there. ``largest``: of those outputs."""

    first: int
    stop: int
    kept: Tuple[str, ...]
    casts: int
    max_abs_error: "float | None" = None
    largest: "float | None" = None


class AboutHalf(msgspec.Struct, frozen=True):
    """``half.json``. ``source_sha256``: of the uncut float32 model."""

    source_sha256: str
    segments: Tuple[HalfSegment, ...]


class Measured(NamedTuple):
    max_abs_error: float
    largest: float


def halve_folder(
    folder: Path, out: Path, name: str, float_ends: bool = True, progress: Callable[[str], None] = lambda line: None
) -> Manifest:
    """Write the FP16 form of ``folder`` to ``out`` under the id ``name`` and return its manifest. ``float_ends``: the
    model's inputs and outputs stay float32. Raises EngineError in one line."""
    manifest = read_manifest(folder)
    if out.resolve() == folder.resolve():
        raise EngineError(f"{out}: is the float32 model's own folder: choose another with --out")
    ends = _ends(manifest) if float_ends else frozenset()
    boundaries = tuple(tuple(_halved(tensor, ends) for tensor in boundary) for boundary in manifest.boundaries)
    store = Store(out)
    with store.adding(), tempfile.TemporaryDirectory(dir=out, prefix=".writing-") as staging:
        infos, about = _write_segments(folder, Path(staging), manifest, ends, progress)
        names = {info.onnx: store.add(_blocks(Path(staging) / info.onnx))[0] for info in infos}
        document = msgspec.json.format(msgspec.json.encode(AboutHalf(manifest.source_sha256, tuple(about))))
        names[HALF] = store.add([document])[0]
        halved = Manifest(
            name, manifest.source_sha256, boundaries[0], _units(manifest, boundaries), tuple(infos), (), boundaries,
            half=names[HALF],
        )  # fmt: skip
        return store.publish(lambda before: (halved, names))


def read_about(folder: Path, manifest: Manifest) -> "AboutHalf | None":
    """What ``half.json`` says, or None where the model is not the FP16 form of another. Raises EngineError for one that
    is not what the manifest says, or that the manifest does not know."""
    path = folder / HALF
    if not manifest.half:
        if path.exists():
            raise EngineError(f"{path}: not named by the manifest beside it: halve the model again")
        return None
    try:
        return msgspec.json.decode(checked_file(folder, HALF, manifest.half).read_bytes(), type=AboutHalf)
    except (OSError, ValueError) as error:
        raise EngineError(f"{path}: cannot be read ({error}): halve the model again") from error


def load_segment(folder: Path, manifest: Manifest, info: SegmentInfo) -> Any:
    """The segment's ONNX graph, when it is what the manifest says. Raises EngineError."""
    import onnx

    return onnx.load(str(checked_segment(folder, manifest, info)))


def measure(
    backend: OnnxRuntimeBackend, folder: Path, manifest: Manifest, info: SegmentInfo, half: Path, inputs: Arrays
) -> Tuple[Measured, Arrays]:
    """How far the graph at ``half`` is from the segment on ``inputs``, and the segment's float32 outputs."""
    handle = backend.load(folder, Segment(manifest.model, info.first, info.stop))
    outputs = backend.run(handle, inputs)
    session = backend.session(half)
    wanted = {value.name: np.float16 if value.type == "tensor(float16)" else None for value in session.get_inputs()}
    feed = {name: inputs[name] if kind is None else inputs[name].astype(kind) for name, kind in wanted.items()}
    made = [value.name for value in session.get_outputs()]  # what goes around the segment is not among them
    halves = session.run(made, feed)
    gaps, sizes = [0.0], [0.0]
    for full, narrow in zip([outputs[name] for name in made], halves):
        with np.errstate(invalid="ignore"):
            gap = np.abs(full.astype(np.float64) - narrow.astype(np.float64))
        gaps.append(float(np.where(np.isnan(gap), np.inf, gap).max(initial=0.0)))
        sizes.append(float(np.abs(full.astype(np.float64)).max(initial=0.0)))
    return Measured(max(gaps), max(sizes)), outputs


def _ends(manifest: Manifest) -> FrozenSet[str]:
    return frozenset(tensor.name for end in (manifest.boundaries[0], manifest.boundaries[-1]) for tensor in end)


def _halved(tensor: TensorInfo, ends: FrozenSet[str]) -> TensorInfo:
    narrow = tensor.dtype == "float32" and tensor.name not in ends
    return TensorInfo(tensor.name, "float16" if narrow else tensor.dtype, tensor.shape)


def _units(manifest: Manifest, boundaries: Tuple[Tuple[TensorInfo, ...], ...]) -> Tuple[Any, ...]:
    return tuple(
        msgspec.structs.replace(
            unit, bytes_in=sum(tensor.item_bytes for tensor in entering), memory_bytes=unit.memory_bytes // 2
        )
        for unit, entering in zip(manifest.units, boundaries)
    )


def _blocks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield from iter(lambda: file.read(1 << 20), b"")


def _write_segments(
    folder: Path, staging: Path, manifest: Manifest, ends: FrozenSet[str], progress: Callable[[str], None]
) -> Tuple[List[SegmentInfo], List[HalfSegment]]:
    import onnx

    from pamdi.engines.verify import random_inputs

    backend = OnnxRuntimeBackend(1, "all")
    known: Dict[int, Arrays] = {0: random_inputs(manifest, PROBE_BATCH)}  # the float32 chain's tensors, by boundary
    infos, about = [], []
    for info in sorted(manifest.segments, key=lambda info: (info.first, info.stop)):
        half: Half = to_half(load_segment(folder, manifest, info), ends)
        path = staging / info.onnx
        onnx.save(half.model, str(path))
        measured = None
        if info.first in known:
            entering = known[info.first]
            check_range(
                backend, load_segment(folder, manifest, info), half.model, entering, f"{info.first}:{info.stop}"
            )
            measured, outputs = measure(backend, folder, manifest, info, path, entering)
            known.setdefault(info.stop, outputs)
        known = {boundary: tensors for boundary, tensors in known.items() if boundary >= info.first}
        infos.append(msgspec.structs.replace(info, sha256=sha256_of(path), weights=(), bytes=path.stat().st_size))
        about.append(HalfSegment(info.first, info.stop, half.kept, half.casts, *(measured or (None, None))))
        progress(_line(about[-1]))
    return infos, about


def _line(half: HalfSegment) -> str:
    error = "not measured" if half.max_abs_error is None else f"error {half.max_abs_error:.3g} of {half.largest:.3g}"
    kept = f"kept in FP32: {'; '.join(half.kept)}" if half.kept else "nothing kept in FP32"
    return f"{half.first}:{half.stop}: {error}; {kept}"
