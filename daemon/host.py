"""What this host is: board, JetPack, memory, power mode, temperatures, power. What cannot be known is None, never zero.

Everything is read from files below ``root``, so that tests can show it another machine; no program is started, and
nothing needs root. What is installed is read anew only when it changes, so this may be called every minute.
"""

import json
import platform
import re
import socket
from functools import lru_cache
from pathlib import Path
from typing import Dict, List, Mapping, Optional

import msgspec

ROOT = Path("/")
COLD_C_MIN = -60.0  # a sensor of a part that is switched off says -256


class Host(msgspec.Struct, frozen=True):
    """None, or an empty dict: unavailable here. ``power_mode``: nvpmodel's number and name; ``power_w``: watts
    per rail; ``l4t``: NVIDIA's release, such as 36.4.3."""

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
    power_w: Dict[str, float] = {}


def describe_host(root: Path = ROOT) -> Host:
    packages = _packages(root)
    model = _text(root / "proc/device-tree/model")
    return Host(
        model=model.rstrip("\0").strip() if model else None,
        l4t=_l4t(root),
        jetpack=packages.get("nvidia-jetpack"),
        cuda=_cuda(root, packages),
        tensorrt=packages.get("libnvinfer10") or packages.get("libnvinfer8") or packages.get("tensorrt"),
        python=platform.python_version(),
        machine=platform.machine(),
        memory_bytes=_meminfo(root, "MemTotal"),
        memory_available_bytes=memory_available_bytes(root),
        power_mode=_power_mode(root),
        temperatures_c=_temperatures(root),
        power_w=_power(root),
    )


def memory_available_bytes(root: Path = ROOT) -> Optional[int]:
    """What can be taken without swapping. On a Jetson the GPU takes from the same."""
    return _meminfo(root, "MemAvailable")


def _l4t(root: Path) -> Optional[str]:
    found = re.search(r"R(\d+).*?REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release") or "")
    return f"{found.group(1)}.{found.group(2)}" if found else None


def _cuda(root: Path, packages: Mapping[str, str]) -> Optional[str]:
    try:
        return str(json.loads(_text(root / "usr/local/cuda/version.json") or "")["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        return next((version for name, version in packages.items() if name.startswith("cuda-cudart-")), None)


def _meminfo(root: Path, key: str) -> Optional[int]:
    found = re.search(rf"^{key}:\s+(\d+) kB", _text(root / "proc/meminfo") or "", re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def _power_mode(root: Path) -> Optional[str]:
    """nvpmodel's mode. Measured speeds hold for one mode only."""
    found = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status") or "")
    if found is None:
        return None
    number = int(found.group(1))
    names = re.findall(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", _text(root / "etc/nvpmodel.conf") or "", re.M)
    name = next((name for id, name in names if int(id) == number), None)
    return f"{number} {name}" if name else str(number)


def _temperatures(root: Path) -> Dict[str, float]:
    found = {}
    for zone in _entries(root / "sys/class/thermal", "thermal_zone*"):
        name, value = _text(zone / "type"), _whole_number(zone / "temp")
        if name and value is not None and value / 1000 > COLD_C_MIN:
            found[name.strip()] = value / 1000
    return found


def _power(root: Path) -> Dict[str, float]:
    """The rails of Jetson's INA3221 sensors: millivolts times milliamperes."""
    found = {}
    for monitor in _entries(root / "sys/class/hwmon", "hwmon*"):
        if (_text(monitor / "name") or "").strip() != "ina3221":
            continue
        for label in _entries(monitor, "in[1-3]_label"):
            rail, number = (_text(label) or "").strip(), label.name[2]
            voltage_mv, current_ma = (
                _whole_number(monitor / f"in{number}_input"),
                _whole_number(monitor / f"curr{number}_input"),
            )
            if rail and voltage_mv is not None and current_ma is not None:
                found[rail] = voltage_mv * current_ma / 1e6
    return found


def _packages(root: Path) -> Mapping[str, str]:
    """Installed Debian packages that matter here, and their versions without Debian's revision."""
    status = root / "var/lib/dpkg/status"
    try:
        return _packages_at(status, status.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=4)
def _packages_at(status: Path, mtime_ns: int) -> Mapping[str, str]:
    """The file has megabytes; its time of change says whether it must be read again."""
    wanted = re.compile(r"^Package: (nvidia-jetpack|libnvinfer\d+|tensorrt|cuda-cudart-\d+-\d+)$", re.MULTILINE)
    found = {}
    for entry in (_text(status) or "").split("\n\n"):
        name = wanted.search(entry)
        version = re.search(r"^Version: (?:\d+:)?([^-+\s]+)", entry, re.MULTILINE)
        if name and version and "\nStatus: install ok installed" in entry:
            found[name.group(1)] = version.group(1)
    return found


def _entries(parent: Path, pattern: str) -> List[Path]:
    """What lies there, in order; none where it cannot be read."""
    try:
        return sorted(parent.glob(pattern))
    except OSError:
        return []


def _text(path: Path) -> Optional[str]:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def _whole_number(path: Path) -> Optional[int]:
    text = (_text(path) or "").strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def address_towards(host: str, port: int) -> str:
    """The address of ours that the broker's host sees. A connected UDP socket knows it; nothing is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((host, port))
            return str(sock.getsockname()[0])
    except OSError:
        return "127.0.0.1"
