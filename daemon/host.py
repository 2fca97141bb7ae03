"""What this host is: board, JetPack, memory, power mode, temperatures. What cannot be known is None, never zero.

Everything is read below ``root``, so that tests can show it another machine.
"""

import platform
import re
from pathlib import Path
from typing import Dict, Optional

import msgspec


class Host(msgspec.Struct, frozen=True):
    """None: unavailable on this machine."""

    model: Optional[str]
    l4t: Optional[str]
    jetpack: Optional[str]
    cuda: Optional[str]
    tensorrt: Optional[str]
    python: str
    machine: str
    memory_bytes: Optional[int]
    memory_available_bytes: Optional[int]
    power_mode: Optional[str]
    temperatures_c: Dict[str, float]


def describe_host(root: Path = Path("/")) -> Host:
    release = _text(root / "etc/nv_tegra_release")
    l4t = None
    if release is not None:
        found = re.search(r"R(\d+).*?REVISION: ([\d.]+)", release)
        l4t = f"{found.group(1)}.{found.group(2)}" if found else None
    packages = _packages(root)
    model = _text(root / "proc/device-tree/model")
    return Host(
        model=model.rstrip("\0").strip() if model else None,
        l4t=l4t,
        jetpack=packages.get("nvidia-jetpack"),
        cuda=next((v for n, v in packages.items() if re.fullmatch(r"cuda-cudart-\d+-\d+", n)), None),
        tensorrt=packages.get("libnvinfer10") or packages.get("libnvinfer8") or packages.get("tensorrt"),
        python=platform.python_version(),
        machine=platform.machine(),
        memory_bytes=_meminfo(root, "MemTotal"),
        memory_available_bytes=_meminfo(root, "MemAvailable"),
        power_mode=_power_mode(root),
        temperatures_c=_temperatures(root),
    )


def memory_available_bytes(root: Path = Path("/")) -> Optional[int]:
    return _meminfo(root, "MemAvailable")


def _text(path: Path) -> Optional[str]:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def _meminfo(root: Path, key: str) -> Optional[int]:
    found = re.search(rf"^{key}:\s+(\d+) kB", _text(root / "proc/meminfo") or "", re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def _power_mode(root: Path) -> Optional[str]:
    found = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status") or "")
    return found.group(1) if found else None


def _temperatures(root: Path) -> Dict[str, float]:
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        name, value = _text(zone / "type"), _text(zone / "temp")
        if name and value and re.fullmatch(r"-?\d+", value.strip()):
            found[name.strip()] = int(value) / 1000
    return found


def _packages(root: Path) -> Dict[str, str]:
    """Installed Debian packages and versions that matter here."""
    wanted = re.compile(r"nvidia-jetpack|libnvinfer\d+|tensorrt|cuda-cudart-\d+-\d+")
    found = {}
    for entry in (_text(root / "var/lib/dpkg/status") or "").split("\n\n"):
        name = re.search(r"^Package: (.+)$", entry, re.MULTILINE)
        version = re.search(r"^Version: (.+)$", entry, re.MULTILINE)
        if name and version and wanted.fullmatch(name.group(1)) and "\nStatus: install ok installed" in entry:
            found[name.group(1)] = version.group(1)
    return found
