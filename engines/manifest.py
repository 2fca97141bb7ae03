"""model.json: what lies beside the exported segments, and whether it can be trusted.

Device side: reads and checks, needs no onnx. A manifest that contradicts itself, points outside its folder or does
not match its files is refused with one line that says what is wrong and how to mend it.
"""

import hashlib
from pathlib import Path
from typing import List, Optional, Tuple, Union

import msgspec

from pamdi.core.errors import EngineError
from pamdi.core.segment import Segment
from pamdi.core.tensors import DTYPE_BYTES

FILE = "model.json"


class TensorInfo(msgspec.Struct, frozen=True):
    """One tensor at a boundary. The first axis may be "batch"."""

    name: str
    dtype: str
    shape: Tuple[Union[int, str], ...]

    @property
    def item_bytes(self) -> int:
        """Bytes for one input: "batch" counts as 1."""
        count = 1
        for size in self.shape:
            count *= size if isinstance(size, int) else 1
        return count * DTYPE_BYTES[self.dtype]


class UnitInfo(msgspec.Struct, frozen=True):
    name: str
    bytes_in: int
    memory_bytes: int
    flops: int
    operators: int = 0


class SegmentInfo(msgspec.Struct, frozen=True):
    first: int
    stop: int
    onnx: str
    sha256: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]


class EngineInfo(msgspec.Struct, frozen=True):
    first: int
    stop: int
    device_type: str
    backend: str
    precision: str
    file: str
    sha256: str
    tensorrt: str = ""
    compute_capability: str = ""
    built_at: str = ""
    max_abs_error: Optional[float] = None


class Manifest(msgspec.Struct, frozen=True):
    """``boundaries[u]`` are the tensors that enter unit u; the last entry is the model's output."""

    model: str
    source_sha256: str
    input: Tuple[TensorInfo, ...]
    units: Tuple[UnitInfo, ...]
    segments: Tuple[SegmentInfo, ...]
    engines: Tuple[EngineInfo, ...] = ()
    boundaries: Tuple[Tuple[TensorInfo, ...], ...] = ()

    @property
    def bytes(self) -> Tuple[int, ...]:
        """What crosses each boundary for one input, in bytes; one more than units."""
        return tuple(sum(tensor.item_bytes for tensor in boundary) for boundary in self.boundaries)

    def segment(self, first: int, stop: int) -> SegmentInfo:
        for info in self.segments:
            if (info.first, info.stop) == (first, stop):
                return info
        have = ", ".join(f"{info.first}:{info.stop}" for info in self.segments)
        raise EngineError(f"{self.model}: no segment {first}:{stop} here (there are {have}): export it")


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Raises EngineError for a manifest that is missing, unreadable or nonsense."""
    path = folder / FILE
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror}: run `pamdi engines export` into this folder") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineError(f"{path}: not a manifest ({error}): export the model again") from error
    problem = _nonsense(manifest)
    if problem:
        raise EngineError(f"{path}: {problem}: export the model again")
    return manifest


def checked_file(folder: Path, name: str, sha256: str) -> Path:
    """The path of a file whose content is what the manifest says. Raises EngineError otherwise."""
    if not _is_plain(name):
        raise EngineError(f"{folder}: file {name!r} is not a plain name in this folder: export the model again")
    path = folder / name
    try:
        found = sha256_of(path)
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror}: export or build it again") from error
    if found != sha256:
        raise EngineError(
            f"{path}: altered or cut short: sha256 is {found[:12]}, the manifest says {sha256[:12]}: export it again"
        )
    return path


def segments_of(manifest: Manifest) -> List[Segment]:
    return [Segment(manifest.model, info.first, info.stop) for info in manifest.segments]


def _nonsense(manifest: Manifest) -> str:
    """What is wrong with it, or nothing. Names are quoted: whatever they hold, the answer is one line."""
    if not manifest.model:
        return "the model has no name"
    checks = (_wrong_units, _wrong_boundaries, _wrong_segments, _wrong_engines)
    return next((problem for check in checks for problem in [check(manifest)] if problem), "")


def _wrong_units(manifest: Manifest) -> str:
    count = len(manifest.units)
    if not count or len(manifest.boundaries) != count + 1:
        return f"{count} units need {count + 1} boundaries, there are {len(manifest.boundaries)}"
    for unit in manifest.units:
        if min(unit.bytes_in, unit.memory_bytes, unit.flops, unit.operators) < 0:
            return f"unit {unit.name!r} has a negative size"
    return ""


def _wrong_boundaries(manifest: Manifest) -> str:
    for tensor in [tensor for boundary in manifest.boundaries for tensor in boundary]:
        sizes = tensor.shape[1:] if tensor.shape[:1] == ("batch",) else tensor.shape
        if tensor.dtype not in DTYPE_BYTES or not all(isinstance(size, int) and size >= 0 for size in sizes):
            return f"tensor {tensor.name!r} has dtype {tensor.dtype!r} and shape {tensor.shape}"
    if manifest.input != manifest.boundaries[0]:
        return "the input is not what enters the first unit"
    for unit, entering in zip(manifest.units, manifest.bytes):
        if unit.bytes_in != entering:
            return f"unit {unit.name!r} says {unit.bytes_in} bytes enter; its tensors have {entering}"
    return ""


def _wrong_segments(manifest: Manifest) -> str:
    seen = set()
    for info in manifest.segments:
        if not 0 <= info.first < info.stop <= len(manifest.units):
            return f"segment {info.first}:{info.stop} is not within 0:{len(manifest.units)}"
        if (info.first, info.stop) in seen:
            return f"segment {info.first}:{info.stop} is there twice"
        seen.add((info.first, info.stop))
        if not _is_plain(info.onnx):
            return f"segment file {info.onnx!r} is not a plain name in this folder"
        entering = tuple(tensor.name for tensor in manifest.boundaries[info.first])
        leaving = tuple(tensor.name for tensor in manifest.boundaries[info.stop])
        if (info.inputs, info.outputs) != (entering, leaving):
            return f"segment {info.first}:{info.stop} does not chain with its neighbours"
    return ""


def _wrong_engines(manifest: Manifest) -> str:
    for info in manifest.engines:
        if not 0 <= info.first < info.stop <= len(manifest.units):
            return f"engine {info.first}:{info.stop} is not within 0:{len(manifest.units)}"
        if not _is_plain(info.file):
            return f"engine file {info.file!r} is not a plain name in this folder"
    return ""


def _is_plain(name: str) -> bool:
    """A file of the folder itself: nothing that leads elsewhere, is hidden, or breaks a line."""
    return bool(name) and name.isprintable() and not name.startswith(".") and "/" not in name and "\\" not in name
