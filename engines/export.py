"""An ONNX file per candidate segment, and the manifest beside them.

Every file is written under another name and moved into place, so that a full disk or a kill leaves the folder as it
was before, or whole. The manifest comes last: without it, nothing in the folder counts.
"""

import os
import tempfile
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

import msgspec

from pamdi.core.errors import EngineError
from pamdi.engines.cuts import CutModel, Unit, cut, group, load_model
from pamdi.engines.manifest import FILE, Manifest, SegmentInfo, UnitInfo, sha256_of

MODELS = Path(__file__).resolve().parent / "models"
OURS = {"resnet56": MODELS / "resnet56-digits.onnx"}
LATER = ("resnet50", "gpt2")


def model_path(name: str) -> Path:
    """The ONNX file of a model by name, or ``name`` as a path."""
    if name in OURS:
        return OURS[name]
    if name in LATER:
        raise EngineError(f"model {name}: not yet; export it to ONNX yourself and give the path of the .onnx file")
    return Path(name)


def export(
    path: Path,
    out: Path,
    name: str,
    units: Optional[int] = None,
    segments: Optional[Sequence[Tuple[int, int]]] = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Cut the model at ``path`` into ``units`` (default: at every cut point) and write ``segments`` (default: one per
    unit) into the folder ``out``. Returns the manifest that was written. Raises EngineError in one line."""
    model = cut(load_model(path))
    if units is not None:
        model = group(model, units)
    count = len(model.units)
    pairs = list(segments) if segments is not None else [(u, u + 1) for u in range(count)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        infos = _write_segments(model, out, pairs, progress)
        manifest = Manifest(
            name, sha256_of(path), model.boundaries[0], tuple(map(_unit_info, model.units)), tuple(infos), (),
            model.boundaries,
        )  # fmt: skip
        write_atomically(out / FILE, msgspec.json.format(msgspec.json.encode(manifest)))
    except OSError as error:
        raise EngineError(f"{out}: {error.strerror}: make room or choose another folder with --out") from error
    return manifest


def write_atomically(path: Path, data: bytes) -> None:
    """``path`` holds ``data`` whole, or what it held before. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _write_segments(
    model: CutModel, out: Path, pairs: List[Tuple[int, int]], progress: Callable[[str], None]
) -> List[SegmentInfo]:
    import onnx.utils

    extractor = onnx.utils.Extractor(model.proto)
    infos = []
    for first, stop in pairs:
        if not 0 <= first < stop <= len(model.units):
            raise EngineError(f"segment {first}:{stop} is not within 0:{len(model.units)}")
        entering = [tensor.name for tensor in model.boundaries[first]]
        leaving = [tensor.name for tensor in model.boundaries[stop]]
        part = extractor.extract_model(entering, leaving)
        file = out / f"{first:04d}-{stop:04d}.onnx"
        write_atomically(file, part.SerializeToString())
        infos.append(SegmentInfo(first, stop, file.name, sha256_of(file), tuple(entering), tuple(leaving)))
        progress(f"{file.name}: units {first} to {stop - 1}, {file.stat().st_size} bytes")
    return infos


def _unit_info(unit: Unit) -> UnitInfo:
    return UnitInfo(unit.name, unit.entering.item_bytes, unit.memory_bytes, unit.flops, len(unit.nodes))
