"""Payloads and raw bytes. In the daemon a payload is a dict of numpy arrays; on the wire it is specs, then buffers.

Raw bytes are little-endian and C-contiguous, tensor after tensor. What a peer describes is a claim until checked:
dtype, shape and sizes must agree with the bytes that came, to the byte.
"""

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from pamdi.core.errors import BadInput
from pamdi.core.tensors import DTYPE_BYTES, TensorSpec
from pamdi.engines.resident import Resident

Payload = Dict[str, "np.ndarray"]

AXES_MAX = 32  # of one tensor: numpy's own limit on the oldest version that we run on


def specs(payload: Mapping[str, "np.ndarray"]) -> Tuple[TensorSpec, ...]:
    """Raises BadInput for an array whose dtype may not travel."""
    for name, array in payload.items():
        if array.dtype.name not in DTYPE_BYTES:
            raise BadInput(f"tensor {name}: {array.dtype} cannot travel; use one of {', '.join(DTYPE_BYTES)}")
    return tuple(TensorSpec(name, array.dtype.name, array.shape) for name, array in payload.items())


def buffers(payload: Mapping[str, "np.ndarray"]) -> List[memoryview]:
    """The raw bytes, in the order of ``specs``; copied only where an array is not contiguous or not little-endian."""
    return [_raw(array) for array in payload.values()]


def _raw(array: "np.ndarray") -> memoryview:
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return plain.reshape(-1).view(np.uint8).data


def nbytes(payload: Mapping[str, "np.ndarray"]) -> int:
    """What it has to carry; what is on a GPU stays there."""
    if isinstance(payload, Resident):
        return payload.nbytes
    return sum(array.nbytes for array in payload.values())


def payload_from(described: Sequence[TensorSpec], data: Any) -> Payload:
    """Arrays that share ``data``'s memory (a tensor that begins askew there is copied, so that all are aligned).
    Raises BadInput when specs and bytes do not agree."""
    view = memoryview(data)
    payload: Payload = {}
    at = 0
    for spec in described:
        _check(spec)
        if spec.name in payload or at + spec.nbytes > len(view):
            raise BadInput(f"tensor {spec.name}: {len(view)} bytes do not hold what is described")
        payload[spec.name] = _array(spec, view[at : at + spec.nbytes])
        at += spec.nbytes
    if at != len(view):
        raise BadInput(f"{len(view)} bytes came, {at} are described")
    return payload


def _check(spec: TensorSpec) -> None:
    """Before anything is computed from a claim: a product of a thousand huge sizes takes long."""
    if spec.dtype not in DTYPE_BYTES:
        raise BadInput(f"tensor {spec.name}: dtype {spec.dtype} is not one of {', '.join(DTYPE_BYTES)}")
    if len(spec.shape) > AXES_MAX or any(size < 0 for size in spec.shape):
        raise BadInput(f"tensor {spec.name}: shape {list(spec.shape[:AXES_MAX])} cannot be")


def _array(spec: TensorSpec, raw: memoryview) -> "np.ndarray":
    try:
        array = np.frombuffer(raw, dtype=spec.dtype).reshape(spec.shape)
    except (ValueError, OverflowError) as error:  # no bytes, yet axes beyond what numpy can address
        raise BadInput(f"tensor {spec.name}: shape {list(spec.shape)} cannot be: {error}") from error
    return array if array.flags.aligned else array.copy()
