"""model.json: what lies beside the exported segments, and whether it can be trusted.

Device side: reads and checks, needs no onnx. A manifest that was altered, contradicts itself, points outside its
folder or does not match its files is refused with one line that says what is wrong and how to mend it.

Weights that several segments use lie beside them once, in ``objects/``, each under its sha256; the ONNX files refer
to them as external data. What only one segment uses is in its file.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import msgspec

from pamdi.core.errors import EngineError
from pamdi.core.tensors import DTYPE_BYTES
from pamdi.engines.seal import check_seal, check_trust, sealed

FILE = "model.json"
HALF = "half.json"  # see half_store
OBJECTS = "objects"


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


class WeightInfo(msgspec.Struct, frozen=True):
    """A file of ``objects/``: its name is its ``sha256``."""

    sha256: str
    bytes: int


class SegmentInfo(msgspec.Struct, frozen=True):
    """``inputs`` and ``outputs``: all that crosses the boundaries, so also what goes around the segment; its ONNX
    file takes and makes the rest. ``weights``: which of the manifest's it reads. ``bytes``: of the ONNX file."""

    first: int
    stop: int
    onnx: str
    sha256: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    weights: Tuple[int, ...] = ()
    bytes: int = 0


class EngineInfo(msgspec.Struct, frozen=True):
    """A built engine and everything that decides where it runs: see ``fitting``. ``batches``: the profile's smallest,
    usual and largest batch. ``flags``: of the build. ``max_abs_error``: of the engine's graph against the float32
    segment, as ``error_from`` measured it; None where it was not. ``kept``: operators left in FP32. ``power_mode``: of
    the board while it was built. Empty: unavailable there."""

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
    error_from: str = ""
    segment_sha256: str = ""
    inputs: Tuple[TensorInfo, ...] = ()
    outputs: Tuple[TensorInfo, ...] = ()
    batches: Tuple[int, int, int] = (1, 1, 1)
    cuda: str = ""
    l4t: str = ""
    power_mode: str = ""
    flags: Tuple[str, ...] = ()
    kept: Tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True):
    """``boundaries[u]`` are the tensors that enter unit u; the last entry is the model's output. ``digest`` is the
    document's own, ``signatures`` say who vouches for it: see ``seal``. ``half``: the sha256 of ``half.json`` where the
    model is the FP16 form of another."""

    model: str
    source_sha256: str
    input: Tuple[TensorInfo, ...]
    units: Tuple[UnitInfo, ...]
    segments: Tuple[SegmentInfo, ...]
    engines: Tuple[EngineInfo, ...] = ()
    boundaries: Tuple[Tuple[TensorInfo, ...], ...] = ()
    weights: Tuple[WeightInfo, ...] = ()
    signatures: Tuple[Dict[str, str], ...] = ()
    digest: str = ""
    half: str = ""

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


def read_manifest(folder: Path, trusted_keys: Sequence[str] = ()) -> Manifest:
    """Raises EngineError for a manifest that is missing, unreadable, altered or nonsense, or that none of
    ``trusted_keys`` signed, where there are any."""
    path = folder / FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror}: run `pamdi engines export` into this folder") from error
    return manifest_of(data, str(path), trusted_keys)


def manifest_of(data: bytes, where: str, trusted_keys: Sequence[str] = ()) -> Manifest:
    """The manifest that ``data`` holds; ``where`` it came from is for errors. Raises as read_manifest does."""
    try:
        document: Any = msgspec.json.decode(data)
        manifest = msgspec.convert(document, Manifest)
        problem = check_seal(document)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: text that is not UTF-8
        raise EngineError(f"{where}: not a manifest ({error}): export the model again") from error
    problem = problem or _nonsense(manifest)
    if problem:
        raise EngineError(f"{where}: {problem}: export the model again")
    if trusted_keys:
        check_trust(document, trusted_keys, where)
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Seal ``manifest`` and put it into ``folder``, whole or not at all. Signatures are dropped: they were for what
    it said before. Returns what was written. Raises OSError."""
    document = sealed({**msgspec.to_builtins(manifest), "signatures": []})
    write_document(folder, document)
    return msgspec.convert(document, Manifest)


def write_document(folder: Path, document: Dict[str, Any]) -> None:
    write_durably(folder / FILE, msgspec.json.format(msgspec.json.encode(document)))


def write_durably(path: Path, data: bytes) -> None:
    """On the disk and whole when it returns, or as it was before. An ordinary file: the service that reads it runs as
    another user. Raises OSError."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if temporary.exists():
            temporary.unlink()


def checked_segment(folder: Path, manifest: Manifest, info: SegmentInfo) -> Path:
    """The path of a segment's ONNX file, when it and every weight that it reads are what the manifest says. Raises
    EngineError otherwise."""
    for number in info.weights:
        sha256 = manifest.weights[number].sha256
        checked_file(folder / OBJECTS, sha256, sha256)
    return checked_file(folder, info.onnx, info.sha256)


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


def _nonsense(manifest: Manifest) -> str:
    """What is wrong with it, or nothing. Names are quoted: whatever they hold, the answer is one line."""
    if not manifest.model:
        return "the model has no name"
    checks = (_wrong_units, _wrong_boundaries, _wrong_weights, _wrong_segments, _wrong_engines)
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


def _wrong_weights(manifest: Manifest) -> str:
    for weight in manifest.weights:
        if len(weight.sha256) != 64 or set(weight.sha256) - set("0123456789abcdef") or weight.bytes < 0:
            return f"weight {weight.sha256!r} of {weight.bytes} bytes is none"
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
        if any(not 0 <= number < len(manifest.weights) for number in info.weights):
            return f"segment {info.first}:{info.stop} reads weights that the manifest does not have"
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
