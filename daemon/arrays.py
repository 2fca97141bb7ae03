"""Payloads and raw bytes. In the daemon a payload is a dict of numpy arrays; on the wire it is specs, then buffers."""

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from pamdi.core.errors import BadInput
from pamdi.core.tensors import DTYPE_BYTES, TensorSpec

Payload = Dict[str, "np.ndarray"]


def specs(payload: Mapping[str, "np.ndarray"]) -> Tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, array.dtype.name, array.shape) for name, array in payload.items())


def buffers(payload: Mapping[str, "np.ndarray"]) -> List[memoryview]:
    """The raw bytes, in the order of ``specs``; copied only where an array is not contiguous."""
    return [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in payload.values()]


def nbytes(payload: Mapping[str, "np.ndarray"]) -> int:
    return sum(array.nbytes for array in payload.values())


def payload_from(described: Sequence[TensorSpec], data: Any) -> Payload:
    """Arrays that share ``data``'s memory. Raises BadInput when specs and bytes do not agree."""
    view = memoryview(data)
    payload: Payload = {}
    at = 0
    for spec in described:
        if spec.dtype not in DTYPE_BYTES or any(size < 0 for size in spec.shape):
            raise BadInput(f"tensor {spec.name}: dtype {spec.dtype} and shape {list(spec.shape)} cannot be")
        if spec.name in payload or at + spec.nbytes > len(view):
            raise BadInput(f"tensor {spec.name}: {len(view)} bytes do not hold what is described")
        payload[spec.name] = np.frombuffer(view[at : at + spec.nbytes], dtype=spec.dtype).reshape(spec.shape)
        at += spec.nbytes
    if at != len(view):
        raise BadInput(f"{len(view)} bytes came, {at} are described")
    return payload
