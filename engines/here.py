"""What this machine is, as far as engines care: read from files below ``root``, so that tests can show it another."""

import platform
import re
from pathlib import Path
from typing import NamedTuple, Optional

from pamdi.engines.device_types import type_of_model

ROOT = Path("/")


class Here(NamedTuple):
    """``device_type``: None on a machine that is no board of the table. Empty: unavailable."""

    device_type: Optional[str]
    description: str
    memory_bytes: int
    l4t: str = ""
    cuda: str = ""
    power_mode: str = ""


def this_machine(root: Path = ROOT, power_mode: str = "", cuda: str = "") -> Here:
    model = _text(root / "proc/device-tree/model").rstrip("\0").strip()
    memory = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    release = re.search(r"R(\d+).*?REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    return Here(
        type_of_model(model),
        model or f"{platform.machine()}, no Jetson",
        int(memory.group(1)) * 1024 if memory else 0,
        f"{release.group(1)}.{release.group(2)}" if release else "",
        cuda,
        power_mode,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
