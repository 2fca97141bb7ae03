"""The types of devices that engines are built for: an engine runs on the type it was built for and on no other.

The table is from NVIDIA's release notes of each JetPack; memory is the smallest and largest module of the type. A
machine with a plug-in GPU has the type ``x86-<compute capability>``. Whether a build for a type can be made at all is
decided here and in ``tensorrt_versions``, before anything is started.
"""

import re
from typing import NamedTuple, Optional, Tuple

from pamdi.core.errors import EngineError

GIB = 1 << 30


class DeviceType(NamedTuple):
    """``memory_bytes``: of the smallest and the largest module, shared by CPU and GPU on a Jetson; (0, 0) where it is
    the machine's own. ``tensorrt``: of that JetPack. ``models``: what /proc/device-tree/model contains, in lower case,
    the first that matches in the order of the table."""

    name: str
    compute_capability: str
    memory_bytes: Tuple[int, int]
    jetpack: str
    tensorrt: str
    python: str
    models: Tuple[str, ...] = ()


def _row(
    name: str, cc: str, small: int, large: int, jetpack: str, tensorrt: str, python: str, *models: str
) -> DeviceType:
    return DeviceType(name, cc, (small * GIB, large * GIB), jetpack, tensorrt, python, models)


TABLE = (
    _row("xavier-nx", "7.2", 8, 16, "5.1", "8.5.2", "3.8", "xavier nx"),
    _row("agx-xavier", "7.2", 32, 64, "5.1", "8.5.2", "3.8", "agx xavier", "jetson-agx"),
    _row("orin-nano", "8.7", 4, 8, "6.2", "10.3.0", "3.10", "orin nano"),
    _row("orin-nx", "8.7", 8, 16, "6.2", "10.3.0", "3.10", "orin nx"),
    _row("agx-orin", "8.7", 32, 64, "6.2", "10.3.0", "3.10", "agx orin"),
    _row("thor", "11.0", 64, 128, "7.0", "10.13.3", "3.12", "thor"),
    _row("jetson-tx2", "6.2", 4, 8, "4.6", "8.2.1", "3.6", "jetson tx2", "quill"),
    _row("jetson-nano", "5.3", 4, 4, "4.6", "8.2.1", "3.6", "jetson nano"),
)
NAMES = tuple(sorted(row.name for row in TABLE))


def device_type(name: str) -> DeviceType:
    """The type called ``name``. Raises EngineError naming those there are."""
    for row in TABLE:
        if row.name == name:
            return row
    found = re.fullmatch(r"x86-(\d+\.\d)", name)
    if found:
        return DeviceType(name, found.group(1), (0, 0), "none", "", "")
    raise EngineError(f"device type {name!r} is unknown: one of {', '.join(NAMES)}, or x86-<compute capability>")


def type_of_model(model: Optional[str]) -> Optional[str]:
    """The type of the board that calls itself ``model`` (/proc/device-tree/model), or None."""
    text = (model or "").lower()
    return next((row.name for row in TABLE for part in row.models if part in text), None)
