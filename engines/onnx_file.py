"""An ONNX file read without its weights: the graph in memory, every large weight a slice of a file on the disk.

A model of gigabytes has a graph of kilobytes. Parsing the whole file costs its size twice over, so the file is walked
field by field instead (protobuf's wire format: a tag, a length, the bytes), and the ``raw_data`` of each large
initializer is stepped over and remembered by its place. What comes out is an ordinary ModelProto whose weights are
external data (https://onnx.ai/onnx/repo-docs/ExternalData.html), the same whether they lay in the file itself or, as
they must above 2 GiB, in files beside it.
"""

import hashlib
import math
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Tuple

from pamdi.core.errors import EngineError

LARGE_BYTES = 1024  # smaller ones may be shapes, which shape inference reads
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9  # field numbers in ModelProto, GraphProto, TensorProto: onnx.proto
PACKED_BITS = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2}  # TensorProto's UINT4, INT4, FLOAT4E2M1, UINT2, INT2
BLOCK_BYTES = 1 << 20


class Slice(NamedTuple):
    """``size`` bytes of ``file`` from ``offset``."""

    file: Path
    offset: int
    size: int

    def blocks(self) -> Iterator[bytes]:
        """Raises EngineError where the file ends early."""
        with open(self.file, "rb") as file:
            file.seek(self.offset)
            left = self.size
            while left:
                block = file.read(min(left, BLOCK_BYTES))
                if not block:
                    raise EngineError(f"{self.file}: ends {left} bytes early: export the model again")
                left -= len(block)
                yield block

    def bytes(self) -> bytes:
        return b"".join(self.blocks())

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()


class OnnxFile(NamedTuple):
    """``proto``: the model with shapes inferred; ``weights``: where each initializer that is external data lies."""

    proto: Any
    weights: Dict[str, Slice]


def read_onnx(path: Path) -> OnnxFile:
    """The model at ``path``, checked, with shapes inferred. Raises EngineError in one line."""
    try:
        import onnx
    except ImportError as error:
        raise EngineError("onnx is not installed: cut and export on a desk, with pip install 'pamdi[tools]'") from error
    try:
        model, inline = _without_weights(path)
        weights = {**_beside(model, path), **inline}
        _check(model)
        for value in model.graph.input:
            _name_batch(value)
        return OnnxFile(onnx.shape_inference.infer_shapes(model), weights)
    except EngineError:
        raise
    except FileNotFoundError as error:
        raise EngineError(
            f"{path}: no such file: give the path of an .onnx file, or a name: resnet50, resnet56, gpt2"
        ) from error
    except Exception as error:  # onnx and protobuf raise half a dozen unrelated types for a damaged file
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineError(f"{path}: not a usable ONNX model ({line}): export it again") from error


def model_digest(path: Path) -> str:
    """sha256 of the file, or of the digests of all its files where weights lie in others beside it. Raises OSError."""
    from pamdi.engines.manifest import sha256_of

    others = sorted({piece.file for piece in _beside(_without_weights(path)[0], path).values()} - {path})
    if not others:
        return sha256_of(path)
    lines = [f"{sha256_of(file)}  {file.relative_to(path.parent)}\n" for file in [path, *others]]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _without_weights(path: Path) -> Tuple[Any, Dict[str, Slice]]:
    """The model, and the slices of the large weights that lay in the file itself: they are external data now."""
    import onnx

    places: List[Optional[Tuple[int, int]]] = []
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        lean = _lean(file, 0, size, (GRAPH, INITIALIZER), places)
    model = onnx.ModelProto.FromString(lean)
    slices = {}
    for tensor, place in zip(model.graph.initializer, places):
        if place is not None:
            if place[1] != weight_bytes(tensor):
                raise EngineError(
                    f"{path}: weight {tensor.name!r} has {place[1]} bytes, not its shape's: export it again"
                )
            slices[tensor.name] = Slice(path, *place)
            refer(tensor, path.name, *place)
    return model, slices


def refer(tensor: Any, location: str, offset: int, length: int) -> None:
    """Make ``tensor`` external data: ``length`` bytes from ``offset`` of the file ``location``."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = 1  # TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def fill(tensor: Any, data: bytes) -> None:
    """Make ``tensor`` hold its bytes itself."""
    tensor.ClearField("data_location")
    del tensor.external_data[:]
    tensor.raw_data = data


def _lean(
    file: BinaryIO, first: int, stop: int, path: Tuple[int, ...], places: List[Optional[Tuple[int, int]]]
) -> bytes:
    """The message in [first, stop) of the file, less the large ``raw_data`` of the messages that ``path`` leads to;
    ``places`` gets one entry for each of those: (offset, size), or None where it holds no large one."""
    out = bytearray()
    if not path:
        places.append(None)
    for number, tag, begin, end in _fields(file, first, stop):
        if path and number == path[0]:
            inner = _lean(file, begin, end, path[1:], places)
            out += tag + _varint(len(inner)) + inner
        elif not path and number == RAW_DATA and end - begin >= LARGE_BYTES:
            places[-1] = (begin, end - begin)
        else:
            file.seek(begin)
            body = file.read(end - begin)
            out += tag + (_varint(len(body)) if tag[0] & 7 == 2 else b"") + body
    return bytes(out)


def _fields(file: BinaryIO, first: int, stop: int) -> Iterator[Tuple[int, bytes, int, int]]:
    """(field number, encoded tag, begin, end) of each field's payload. Raises ValueError where it is no message."""
    at = first
    while at < stop:
        file.seek(at)
        tag = _read_varint(file)
        wire, begin = tag & 7, file.tell()
        if wire == 0:
            _read_varint(file)
            end = file.tell()
        elif wire == 2:
            size = _read_varint(file)
            begin = file.tell()
            end = begin + size
        elif wire in (1, 5):
            end = begin + (8 if wire == 1 else 4)
        else:
            raise ValueError(f"byte {at} begins no protobuf field")
        if end > stop:
            raise ValueError(f"it is cut short: a field ends {end - stop} bytes after its message")
        yield tag >> 3, _varint(tag), begin, end
        at = end


def _read_varint(file: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)
        if not byte or shift > 63:
            raise ValueError("it is cut short, or no protobuf")
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
        shift += 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _beside(model: Any, path: Path) -> Dict[str, Slice]:
    """Slices of the weights that lie in other files. Raises EngineError for one that leads elsewhere, or nowhere."""
    slices = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != 1 or tensor.name in slices:
            continue
        told = {entry.key: entry.value for entry in tensor.external_data}
        location = told.get("location", "")
        if location == path.name:
            continue
        file = path.parent / location
        if not location or Path(location).is_absolute() or ".." in Path(location).parts:
            raise EngineError(f"{path}: weight {tensor.name!r} lies outside its folder ({location!r}): export it again")
        size = weight_bytes(tensor)
        offset, length = int(told.get("offset", 0)), int(told.get("length", size))
        if not file.is_file() or length != size or offset < 0 or offset + length > file.stat().st_size:
            raise EngineError(
                f"{file}: {size} bytes of weight {tensor.name!r} are not there: copy or export it with its model"
            )
        slices[tensor.name] = Slice(file, offset, length)
    return slices


def weight_bytes(tensor: Any) -> int:
    """The size of the tensor's ``raw_data``: its shape times its type, types of two and four bits packed."""
    import onnx

    bits = PACKED_BITS.get(tensor.data_type)
    if bits is None:
        bits = 8 * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return (math.prod(int(size) for size in tensor.dims) * bits + 7) // 8


def _check(model: Any) -> None:
    """onnx's own check. It would look for the weights on the disk: it gets a copy in which they are inputs."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    here = [tensor for tensor in graph.initializer if tensor.data_location != 1]
    inputs = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.data_location == 1 and tensor.name not in inputs:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del graph.initializer[:]
    graph.initializer.extend(here)
    onnx.checker.check_model(copy)


def _name_batch(value: Any) -> None:
    """Give a nameless first axis a name, so that shape inference can follow it through the graph."""
    dims = value.type.tensor_type.shape.dim
    if dims and not dims[0].WhichOneof("value"):
        dims[0].dim_param = "batch"
