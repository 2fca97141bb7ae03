"""What differs between the versions of TensorRT that we meet, in one table; no other file asks for a version.

Read off the real Python bindings of 10.3.0, 10.13.3.9, 11.4.0.106 and of TensorRT-RTX 1.7 (tests/tensorrt holds the
table against them), and off NVIDIA's documentation for 8.2, 8.5 and 8.6, whose bindings are no wheels. What a version
cannot do is said from the table, before a build starts.
"""

import re
from typing import Iterable, Iterator, NamedTuple, Optional

from pamdi.core.errors import EngineError


class Version(NamedTuple):
    """What one version can.

    ``named_tensors``: execute_async_v3 and tensor names. ``strongly_typed``: the graph's types decide; without it
    ``fp16_flag`` lets the builder choose FP16. ``explicit_batch``: the creation flag exists. ``memory_size``: the
    engine's attribute that says how much device memory a context takes. ``named_faults``: the parser names the operator
    at fault. ``user_managed``: contexts whose device memory is ours, so that several can share it. ``targets``: builds
    for a stated compute capability. ``timing_cache``: False where it does nothing.
    """

    name: str
    named_tensors: bool
    strongly_typed: bool
    fp16_flag: bool
    explicit_batch: bool
    progress_monitor: bool
    int64: bool
    memory_size: str
    named_faults: bool = False
    targets: bool = False
    timing_cache: bool = True
    user_managed: bool = False


#        name    named  strong  fp16   explicit  progress int64
TABLE = (
    Version("8.2", False, False, True, True, False, False, "device_memory_size"),
    Version("8.5", True, False, True, True, False, False, "device_memory_size"),
    Version("8.6", True, False, True, True, False, False, "device_memory_size"),
    Version("10.3", True, True, True, True, True, True, "device_memory_size_v2", True, user_managed=True),
    Version("10.13", True, True, True, True, True, True, "device_memory_size_v2", True, user_managed=True),
    Version("11.4", True, True, False, False, True, True, "device_memory_size_v2", True, user_managed=True),
    Version(
        "rtx-1.7",
        True,
        True,
        False,
        False,
        True,
        True,
        "device_memory_size_v2",
        True,
        targets=True,
        timing_cache=False,
        user_managed=True,
    ),
)


def version_row(version: str, rtx: bool = False) -> Version:
    """The row for a version such as 10.7.0: the newest of its major that is not newer. Raises EngineError where there
    is none."""
    found = re.match(r"(\d+)\.(\d+)", version)
    wanted = tuple(int(part) for part in found.groups()) if found else (0, 0)
    rows = [row for row in TABLE if row.name.startswith("rtx-") == rtx]
    best: Optional[Version] = None
    for row in rows:
        major, minor = (int(part) for part in row.name.replace("rtx-", "").split("."))
        if major == wanted[0] and minor <= wanted[1]:
            best = row
    if best is None:
        known = ", ".join(row.name for row in rows)
        raise EngineError(
            f"TensorRT {version} is not among the versions that pamdi knows ({known}): install one of them"
        )
    return best


def cannot(row: Version, dtypes: Iterable[str]) -> Iterator[str]:
    """What this version cannot do of what is wanted: one line each. ``dtypes``: of the tensors at the boundaries."""
    if not row.named_tensors:
        yield f"TensorRT {row.name} has no execute_async_v3: pamdi runs 8.5 and later (JetPack 5.1 and later)"
    if not row.int64 and "int64" in dtypes:
        yield f"TensorRT {row.name} takes no int64: export the model with int32 tokens for this device type"
    for dtype in sorted(set(dtypes) - {"float32", "float16", "int8", "int32", "int64", "bool", "uint8"}):
        yield f"TensorRT {row.name} takes no {dtype} at a boundary: cut elsewhere"
