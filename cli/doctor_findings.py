"""What `pamdi doctor` looks at on this machine: one small function per question, each answers with findings.

A finding is a fact, or something odd, or something that prevents work; the last two carry their cure. Nothing is
changed here and nothing is guessed: what cannot be known is "unavailable".
"""

import importlib.util
import os
import shutil
import time
from pathlib import Path
from typing import Iterator, List, Optional

import msgspec

from pamdi.calibration.lookup import folders_for
from pamdi.calibration.power_mode import mode_of_table, other_mode
from pamdi.core.errors import ConfigError, EngineError
from pamdi.daemon.config import DaemonConfig
from pamdi.daemon.host import Host
from pamdi.engines.manifest import checked_segment, read_manifest
from pamdi.engines.open_backend import open_backend
from pamdi.engines.store import PULLED

OK, ODD, WRONG = "ok", "odd", "wrong"
UNAVAILABLE = "unavailable"
MEMORY_AVAILABLE_BYTES_MIN = 512 * 2**20
TEMPERATURE_C_MAX = 90.0  # boards slow themselves down a little above
DISK_FREE_BYTES_MIN = 512 * 2**20
YEAR_MIN = 2024


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """``state`` is ok, odd (works, but look at it) or wrong (prevents work)."""

    name: str
    value: str
    state: str = OK
    cure: str = ""


def about_host(host: Host) -> Iterator[Finding]:
    facts = {
        "board": host.model, "L4T": host.l4t, "JetPack": host.jetpack, "CUDA": host.cuda, "TensorRT": host.tensorrt,
        "power mode": host.power_mode,
    }  # fmt: skip
    for name, value in facts.items():
        yield Finding(name, value or UNAVAILABLE)
    yield Finding("power", ", ".join(f"{rail} {w:.1f} W" for rail, w in host.power_w.items()) or UNAVAILABLE)
    yield about_temperature(host)
    yield about_memory(host)
    yield about_python(host)


def about_power_mode(id: str, type: str, mode: Optional[str], config: Path) -> List[Finding]:
    """Beside the calibration table of this type of board, where there is one beside ``config``, or that came with
    pamdi, which the controller would otherwise find out at run time."""
    try:
        measured = mode_of_table(type, folders_for(config))
    except ConfigError as error:
        what, _, cure = str(error).rpartition(": ")
        return [Finding("table", what, ODD, cure)]
    parts = (line.partition(": ") for line in other_mode(id, type, mode, [measured] if measured else []))
    return [Finding("table", what, ODD, cure) for what, _, cure in parts]


def about_temperature(host: Host) -> Finding:
    if not host.temperatures_c:
        return Finding("temperature", UNAVAILABLE)
    sensor, hottest_c = max(host.temperatures_c.items(), key=lambda entry: entry[1])
    value = f"{hottest_c:.0f} C at the hottest ({sensor})"
    if hottest_c < TEMPERATURE_C_MAX:
        return Finding("temperature", value)
    return Finding("temperature", value, ODD, "the board slows itself down: give it air, or a lower nvpmodel mode")


def about_memory(host: Host) -> Finding:
    if host.memory_bytes is None or host.memory_available_bytes is None:
        return Finding("memory", UNAVAILABLE)
    value = f"{_gib(host.memory_available_bytes)} available of {_gib(host.memory_bytes)}"
    if host.memory_available_bytes >= MEMORY_AVAILABLE_BYTES_MIN:
        return Finding("memory", value)
    return Finding("memory", value, ODD, "engines may not fit: stop what else runs, or disable the desktop")


def about_python(host: Host) -> Finding:
    value = f"{host.python} on {host.machine}"
    if host.tensorrt is None or importlib.util.find_spec("tensorrt") is not None:
        return Finding("Python", value)
    cure = "make the environment with JetPack's python3 and --system-site-packages, as `make install-service` does"
    return Finding("Python", f"{value}, does not see JetPack's TensorRT", ODD, cure)


def about_clock(synchronised: Path = Path("/run/systemd/timesync/synchronized")) -> Finding:
    now = time.gmtime()
    value = time.strftime("%Y-%m-%d %H:%M UTC", now)
    if now.tm_year < YEAR_MIN:
        return Finding(
            "clock", value, WRONG, "certificates cannot be checked: sudo timedatectl set-ntp true, and a network"
        )
    return Finding("clock", value + (", synchronised" if synchronised.exists() else ""))


def about_backend(config: Optional[DaemonConfig]) -> Finding:
    """The one that the configuration asks for, opened; else whether there is any."""
    name = config.backend.name if config is not None else "onnxruntime"
    try:
        if config is not None:
            wanted = config.backend
            backend = open_backend(name, wanted.threads, wanted.optimisation, device=wanted.device)
        else:
            backend = open_backend(name)
    except EngineError as error:
        what, _, cure = str(error).partition(": ")
        return Finding("back end", what, WRONG, cure)
    told = ", ".join(f"{key} {value}" for key, value in backend.describe().items())
    return Finding("back end", told or name)


def about_store(folder: Path, every_byte: bool) -> List[Finding]:
    """One finding per model, or one that says why there is none. ``every_byte``: check the files' sums as well."""
    try:
        if not folder.is_dir():
            return [Finding("store", f"{folder} is no folder", WRONG, "make it, or mend `store` in daemon.toml")]
        manifests = sorted(folder.glob("*/model.json"))
        disk = shutil.disk_usage(folder)
    except OSError as error:
        return [Finding("store", f"{folder}: {error.strerror}", ODD, "run this as root or as the service's user")]
    cure = f"pamdi engines export MODEL --out {folder}/MODEL"
    found = [_about_model(path.parent, every_byte) for path in manifests]
    if not found:
        found = [Finding("store", f"{folder} holds no model", ODD, cure)]
    if disk.free < DISK_FREE_BYTES_MIN:
        found.append(
            Finding("disk", f"{_gib(disk.free)} free at {folder}", ODD, "new engines may not fit: remove old ones")
        )
    return found


def _about_model(folder: Path, every_byte: bool) -> Finding:
    try:
        manifest = read_manifest(folder)
        for info in manifest.segments if every_byte else ():
            if (folder / info.onnx).is_file() or not (folder / PULLED).is_file():
                checked_segment(folder, manifest, info)
        missing = [info.onnx for info in manifest.segments if not (folder / info.onnx).is_file()]
        missing = [] if (folder / PULLED).is_file() else missing  # what was not needed here was not pulled
    except EngineError as error:
        what, _, cure = str(error).rpartition(": ")
        return Finding("store", what, WRONG, cure)
    if missing:
        return Finding("store", f"{folder}: {missing[0]} is missing", WRONG, "export the model again")
    return Finding("store", f"{manifest.model}: {len(manifest.units)} units, {len(manifest.segments)} segments")


def about_folders(config: DaemonConfig) -> Iterator[Finding]:
    """Where journals are kept: they must take writes, now, from whoever runs this."""
    for key, text in (("runtime_dir", config.runtime_dir), ("state_dir", config.state_dir)):
        yield about_folder(key, text, config.limits.journal_bytes_max)


def about_folder(key: str, text: str, wanted_bytes: int) -> Finding:
    """``wanted_bytes``: of a journal that is full; 0: there is none."""
    folder = Path(text)
    existing = next(path for path in (folder, *folder.resolve().parents) if os.path.exists(path))
    if not existing.is_dir():
        return Finding(key, f"{existing} is no folder", WRONG, f"mend `{key}` in the configuration")
    if not os.access(existing, os.W_OK | os.X_OK):
        cure = "run this as the service's user (sudo -u pamdi), or make the folder writable"
        return Finding(key, f"{folder} cannot be written by user {os.geteuid()}", ODD, cure)
    if shutil.disk_usage(existing).free < wanted_bytes:
        return Finding(key, f"{folder}: no room for a full journal", ODD, "free some, or lower journal_bytes_max")
    return Finding(key, str(folder) if folder.exists() else f"{folder} (made at the first start)")


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
