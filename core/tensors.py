"""What a work carries from one boundary to the next, described without any array library.

The core never looks inside a payload: it moves the opaque object and counts its bytes. These descriptions travel
in messages so that the receiver knows how to read the raw buffer that follows.
"""

from typing import Tuple

import msgspec

# numpy names of the dtypes that may cross a boundary, with their size in bytes.
DTYPE_BYTES = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2,
    "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8,
}  # fmt: skip


class TensorSpec(msgspec.Struct, frozen=True):
    """Name, dtype (numpy's name) and shape of one tensor; ``shape`` counts elements along each axis."""

    name: str
    dtype: str
    shape: Tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the raw buffer, in bytes. Raises KeyError for a dtype that may not travel."""
        count = 1
        for size in self.shape:
            count *= size
        return count * DTYPE_BYTES[self.dtype]
