"""An ONNX file per candidate segment, and the manifest beside them.

Everything is written into a hidden folder within the target first, so that a full disk or a damaged model leaves the
target as it was. Then each file is moved into place, the manifest last: a kill between two moves leaves files whose
sha256 is not the manifest's, which every reader refuses by name.
"""

import os
import tempfile
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

import msgspec

from pamdi.core.errors import EngineError
from pamdi.engines.cuts import CutModel, Unit, cut, group, load_model
from pamdi.engines.manifest import FILE, Manifest, SegmentInfo, UnitInfo, sha256_of
from pamdi.engines.named_models import OURS, model_path

__all__ = ["OURS", "export", "model_path"]


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
    _check_pairs(pairs, count)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".writing-") as staging:
            infos = _write_segments(model, Path(staging), pairs, progress)
            manifest = Manifest(
                name, sha256_of(path), model.boundaries[0], tuple(map(_unit_info, model.units)), tuple(infos), (),
                model.boundaries,
            )  # fmt: skip
            _write(Path(staging) / FILE, msgspec.json.format(msgspec.json.encode(manifest)))
            for file in [*(info.onnx for info in infos), FILE]:
                os.replace(Path(staging) / file, out / file)
    except OSError as error:
        raise EngineError(f"{out}: {error.strerror}: make room or choose another folder with --out") from error
    return manifest


def _check_pairs(pairs: List[Tuple[int, int]], count: int) -> None:
    if not pairs or len(set(pairs)) != len(pairs):
        raise EngineError(f"segments {pairs}: name at least one, and none twice")
    for first, stop in pairs:
        if not 0 <= first < stop <= count:
            raise EngineError(f"segment {first}:{stop} is not within 0:{count}")


def _write(path: Path, data: bytes) -> None:
    """On the disk when it returns. An ordinary file: the service that reads it runs as another user."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _write_segments(
    model: CutModel, folder: Path, pairs: List[Tuple[int, int]], progress: Callable[[str], None]
) -> List[SegmentInfo]:
    import onnx.utils

    extractor = onnx.utils.Extractor(model.proto)
    infos = []
    for first, stop in pairs:
        entering = [tensor.name for tensor in model.boundaries[first]]
        leaving = [tensor.name for tensor in model.boundaries[stop]]
        try:
            data = extractor.extract_model(entering, leaving).SerializeToString()
        except Exception as error:  # sparse weights, quantisation annotations, more than 2 GB: each its own type
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EngineError(
                f"segment {first}:{stop} cannot be extracted ({line}): export the model without"
            ) from error
        file = folder / f"{first:04d}-{stop:04d}.onnx"
        _write(file, data)
        infos.append(SegmentInfo(first, stop, file.name, sha256_of(file), tuple(entering), tuple(leaving)))
        progress(f"{file.name}: units {first} to {stop - 1}, {len(data)} bytes")
    return infos


def _unit_info(unit: Unit) -> UnitInfo:
    return UnitInfo(unit.name, unit.entering.item_bytes, unit.memory_bytes, unit.flops, len(unit.nodes))
