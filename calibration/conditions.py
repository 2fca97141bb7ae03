"""What is measured, and in which state: machine, clocks, temperature. What cannot be read is "unavailable".

The power mode is the caller's to say (the daemon's ``describe_host`` knows it). Reads files only; nothing needs root.
"""

from pathlib import Path
from typing import List, Union

from pamdi.calibration.table import UNAVAILABLE

ROOT = Path("/")


def machine(root: Path = ROOT) -> str:
    """The board's name, or the processor's."""
    try:
        return (root / "proc/device-tree/model").read_text().strip("\0\n ")
    except OSError:
        pass
    try:
        names = [line.partition(":")[2].strip() for line in (root / "proc/cpuinfo").read_text().splitlines()]
        return next(name for name in names if "CPU" in name or "Processor" in name)
    except (OSError, StopIteration):
        return UNAVAILABLE


def clocks(root: Path = ROOT) -> str:
    """The clocks' limits that are set now, in MHz: "cpu 1190..1900, gpu 115..1377". Equal ends are a fixed clock."""
    cpu = root / "sys/devices/system/cpu/cpu0/cpufreq"
    said = [_range("cpu", cpu / "scaling_min_freq", cpu / "scaling_max_freq", 1e3)]
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        if any(word in folder.name for word in ("gpu", "gv11b", "ga10b", "gp10b", "gm20b")):
            said.append(_range("gpu", folder / "min_freq", folder / "max_freq", 1e6))
    return ", ".join(part for part in said if part) or UNAVAILABLE


def temperature_c(root: Path = ROOT) -> Union[float, str]:
    """The hottest sensor, or "unavailable"."""
    found: List[float] = []
    for zone in (root / "sys/class/thermal").glob("thermal_zone*"):
        value = _number(zone / "temp")
        if value is not None and -60 < value / 1000 < 200:  # a sensor of a part that is off says -256
            found.append(value / 1000)
    return max(found) if found else UNAVAILABLE


def _range(name: str, low: Path, high: Path, per_mhz: float) -> str:
    least, most = _number(low), _number(high)
    return "" if least is None or most is None else f"{name} {least / per_mhz:.0f}..{most / per_mhz:.0f} MHz"


def _number(path: Path) -> "float | None":
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
