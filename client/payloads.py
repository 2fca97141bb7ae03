"""The JSON of submissions, results and cancellations, and the checks that nothing unreadable passes.

Sizes are checked before anything is allocated. Whatever is wrong ends in a BadInput that says what, in a sentence.
"""

import binascii
import hashlib
import math
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import msgspec
import numpy as np

from pamdi.core.allocation import ModelSpec
from pamdi.core.errors import BadInput, Reason
from pamdi.core.tensors import DTYPE_BYTES
from pamdi.core.work import Visit

SUBMIT_BYTES_MAX = 8 * 2**20
BATCH_MAX = 64
AXES_MAX = 8
ELEMENTS_MAX = 2**48
ID_CHARACTERS_MAX = 128
_ID = re.compile(r'"id"\s*:\s*"([^"\\]{1,128})"')

Arrays = Dict[str, "np.ndarray"]


class TensorJson(msgspec.Struct, frozen=True):
    """A tensor as JSON: ``data`` is base64 of the raw little-endian bytes, row by row."""

    dtype: str
    shape: List[int]
    data: str


class SubmitJson(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    inputs: Dict[str, TensorJson]
    gamma: Optional[float] = None
    deadline_s: Optional[float] = None


class ResultJson(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    status: str
    reason: str = ""
    detail: str = ""
    latency_s: Optional[float] = None
    retry_after_s: Optional[float] = None
    replayed: int = 0
    retried: int = 0
    outputs: Dict[str, TensorJson] = {}
    path: Tuple[Visit, ...] = ()


class CommandJson(msgspec.Struct, frozen=True):
    """A cancel, drain or reallocate command: idempotent by ``id``."""

    id: str
    on: bool = True


class Submission(NamedTuple):
    """A submission that has passed every check that needs no model."""

    id: str
    inputs: Arrays
    nbytes: int
    digest: str
    gamma: Optional[float]
    deadline_s: Optional[float]


_submit = msgspec.json.Decoder(SubmitJson)
_result = msgspec.json.Decoder(ResultJson)
_command = msgspec.json.Decoder(CommandJson)


def read_submission(payload: bytes, bytes_max: int = SUBMIT_BYTES_MAX) -> Submission:
    """Raises BadInput for anything that is not a submission within its bounds."""
    if len(payload) > bytes_max * 4 // 3 + 64 * 1024:
        raise BadInput(f"{len(payload)} bytes of JSON; the limit is {bytes_max} bytes decoded", Reason.TOO_LARGE)
    message = _decode(_submit, payload, "a submission")
    _check_id(message.id)
    for name, value in (("gamma", message.gamma), ("deadline_s", message.deadline_s)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise BadInput(f"{name} is {value}; it must be a positive number")
    if not message.inputs:
        raise BadInput("inputs are empty: name at least one tensor")
    inputs: Arrays = {}
    total = 0
    for name, tensor in message.inputs.items():
        total += _claimed_bytes(name, tensor)
        if total > bytes_max:
            raise BadInput(f"inputs claim {total} bytes; the limit is {bytes_max}", Reason.TOO_LARGE)
        inputs[name] = _array(name, tensor)
    return Submission(message.id, inputs, total, digest_of(inputs), message.gamma, message.deadline_s)


def write_submission(
    id: str, inputs: Mapping[str, "np.ndarray"], gamma: Optional[float] = None, deadline_s: Optional[float] = None
) -> bytes:
    """Raises BadInput for what is not arrays by name: the dtype is part of what is asked, so nothing is guessed."""
    if not isinstance(inputs, Mapping):
        raise BadInput(f"inputs are a {type(inputs).__name__}: give arrays by the names of the model's inputs")
    for name, array in inputs.items():
        if not isinstance(array, (np.ndarray, np.generic)):
            raise BadInput(f"{name} is a {type(array).__name__}: give a numpy array, numpy.asarray({name}, 'float32')")
    return msgspec.json.encode(SubmitJson(id, tensors_json(inputs), gamma, deadline_s))


def read_result(payload: bytes) -> ResultJson:
    """Raises BadInput."""
    return _decode(_result, payload, "a result")  # type: ignore[no-any-return]


def read_outputs(result: ResultJson) -> Arrays:
    return {name: _array(name, tensor) for name, tensor in result.outputs.items()}


def read_command(payload: bytes) -> CommandJson:
    """Raises BadInput."""
    command = _decode(_command, payload, "a command")
    _check_id(command.id)
    return command  # type: ignore[no-any-return]


def tensors_json(arrays: Mapping[str, "np.ndarray"]) -> Dict[str, TensorJson]:
    """In the wire's order of bytes, whatever the arrays' own is."""
    return {
        name: TensorJson(
            array.dtype.name,
            list(array.shape),
            binascii.b2a_base64(_little_endian(array).tobytes(), newline=False).decode(),
        )
        for name, array in arrays.items()
    }


def _little_endian(array: "np.ndarray") -> "np.ndarray":
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def id_of(payload: bytes) -> Optional[str]:
    """The id of a payload that cannot be read otherwise, where one can be found."""
    found = _ID.search(payload[:65536].decode("utf-8", "replace")) or _ID.search(
        payload[-512:].decode("utf-8", "replace")
    )
    if found is None or not found.group(1).isprintable():
        return None
    return found.group(1)


def digest_of(inputs: Mapping[str, "np.ndarray"]) -> str:
    """sha256 over names, dtypes, shapes and bytes: the same input has the same digest, whoever encoded it."""
    digest = hashlib.sha256()
    for name in sorted(inputs):
        array = inputs[name]
        digest.update(f"{name}\0{array.dtype.name}\0{list(array.shape)}\0".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def check_inputs(inputs: Mapping[str, "np.ndarray"], model: ModelSpec) -> None:
    """Raises BadInput when ``inputs`` are not what the model takes. A size of -1 in the spec is the batch."""
    if set(inputs) != {name for name, _, _ in model.inputs}:
        raise BadInput(f"inputs are {sorted(inputs)}; {model.id} takes {sorted(name for name, _, _ in model.inputs)}")
    for name, dtype, shape in model.inputs:
        array = inputs[name]
        if array.dtype.name != dtype:
            raise BadInput(f"{name} is {array.dtype.name}; {model.id} takes {dtype}")
        fits = array.ndim == len(shape) and all(want in (-1, have) for have, want in zip(array.shape, shape))
        if not fits or (shape and shape[0] == -1 and not 1 <= array.shape[0] <= BATCH_MAX):
            wanted = ["batch" if size == -1 else size for size in shape]
            batch = f", batch 1 to {BATCH_MAX}" if -1 in shape else ""
            raise BadInput(f"{name} has shape {list(array.shape)}; {model.id} takes {wanted}{batch}")


def _decode(decoder: Any, payload: bytes, what: str) -> Any:
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"not {what}: {error}") from error


def _check_id(id: str) -> None:
    if not 1 <= len(id) <= ID_CHARACTERS_MAX or not id.isprintable():
        raise BadInput(f"the id must have 1 to {ID_CHARACTERS_MAX} printable characters")


def _claimed_bytes(name: str, tensor: TensorJson) -> int:
    if tensor.dtype not in DTYPE_BYTES:
        raise BadInput(f"{name}: dtype {tensor.dtype[:32]!r} is unknown: one of {', '.join(DTYPE_BYTES)}")
    if len(tensor.shape) > AXES_MAX or any(size < 0 for size in tensor.shape):
        raise BadInput(f"{name}: shape {tensor.shape[:AXES_MAX]} must have at most {AXES_MAX} axes, none negative")
    # Next to a zero a huge axis claims no bytes, yet numpy cannot hold such a shape: count zeros as ones.
    if math.prod(max(1, size) for size in tensor.shape) > ELEMENTS_MAX:
        raise BadInput(f"{name}: the axes of its shape are too long", Reason.TOO_LARGE)
    return math.prod(tensor.shape) * DTYPE_BYTES[tensor.dtype]


def _array(name: str, tensor: TensorJson) -> "np.ndarray":
    claimed = _claimed_bytes(name, tensor)
    if len(tensor.data) != (claimed + 2) // 3 * 4:
        raise BadInput(f"{name}: {len(tensor.data)} characters of base64 are not the {claimed} bytes of its shape")
    try:
        data = binascii.a2b_base64(tensor.data.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError) as error:
        raise BadInput(f"{name}: data is not base64 ({error})") from error
    if len(data) != claimed:
        raise BadInput(f"{name}: {len(data)} bytes of data; its shape has {claimed}")
    array: "np.ndarray" = np.frombuffer(data, tensor.dtype).reshape(tensor.shape)
    return array
