"""fleet.toml: devices, links, models and sources, as typed values. ``controller.toml`` shares its tables.

Units: seconds, bytes, hertz. Unknown keys are errors. Links go both ways unless ``one_way``; ``[[mesh]]`` is a
shorthand for every pair of its devices that has no link of its own.
"""

from pathlib import Path
from typing import Dict, List, Optional, Tuple, Union

import msgspec

from pamdi.client.toml_file import read_toml
from pamdi.core.errors import ConfigError


class DeviceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    type: str
    memory_bytes: int
    fail_probability: float = 0.0
    overhead_s: float = 0.0


class LinkEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    from_: str
    to: str
    rate_bytes_per_s: float
    delay_s: float = 0.0
    fail_probability: float = 0.0
    medium: Optional[str] = None
    one_way: bool = False


class MeshEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    devices: Union[str, List[str]]
    rate_bytes_per_s: float
    delay_s: float = 0.0
    fail_probability: float = 0.0
    medium: Optional[str] = None


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``bytes``: what enters each unit, then the output; ``seconds``: per device type, per unit."""

    id: str
    units: List[str]
    bytes: List[int]
    memory: List[int]
    seconds: Dict[str, List[float]]


class SourceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See ``pamdi.core.allocation.SourceSpec``."""

    id: str
    model: str
    device: str
    gamma: float = 1.0
    alpha: float = 1.0
    rate_hz: float = 1.0
    deadline_s: Optional[float] = None
    age_s_max: Optional[float] = None
    gamma_max: Optional[float] = None
    queue_works_max: int = 1000
    attempts_max: int = 3
    replay_after_s: float = 5.0
    durability: str = "memory"


class LinkRate(msgspec.Struct, frozen=True):
    rate_bytes_per_s: float
    delay_s: float


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device: List[DeviceEntry] = []
    link: List[LinkEntry] = []
    mesh: List[MeshEntry] = []
    model: List[ModelEntry] = []
    source: List[SourceEntry] = []
    loss_penalty_s: float = 10.0


def read_fleet(path: Path) -> Fleet:
    """Raises ConfigError: what, where, how to mend."""
    fleet = read_toml(path, Fleet)
    check_fleet(fleet, str(path))
    return fleet


def check_fleet(fleet: Fleet, where: str) -> None:
    devices = {device.id for device in fleet.device}
    models = {model.id: model for model in fleet.model}
    for model in fleet.model:
        check_model(model, where)
    for source in fleet.source:
        if source.model not in models:
            raise ConfigError(f"{where}: source {source.id}: no model {source.model!r}: add a [[model]] with that id")
        if source.device not in devices:
            raise ConfigError(
                f"{where}: source {source.id}: no device {source.device!r}: add a [[device]] with that id"
            )
        if not source.gamma > 0 or not 0 < source.alpha <= 1 or not source.rate_hz > 0:
            raise ConfigError(f"{where}: source {source.id}: gamma and rate_hz must be positive, alpha in (0, 1]")
    for device in fleet.device:
        for model in fleet.model:
            if device.type not in model.seconds:
                raise ConfigError(f"{where}: model {model.id} has no seconds for device type {device.type}: add them")


def check_model(model: ModelEntry, where: str) -> None:
    count = len(model.units)
    if not count or len(model.bytes) != count + 1 or len(model.memory) != count:
        raise ConfigError(
            f"{where}: model {model.id}: {count} units need {count + 1} bytes and {count} memory, "
            f"there are {len(model.bytes)} and {len(model.memory)}"
        )
    for kind, seconds in model.seconds.items():
        if len(seconds) != count or not all(s > 0 for s in seconds):
            raise ConfigError(f"{where}: model {model.id}: seconds of {kind} must be {count} positive numbers")


def link_rates(devices: List[str], links: List[LinkEntry], meshes: List[MeshEntry]) -> Dict[Tuple[str, str], LinkRate]:
    """Directed links by (from, to)."""
    rates: Dict[Tuple[str, str], LinkRate] = {}
    for link in links:
        rate = LinkRate(link.rate_bytes_per_s, link.delay_s)
        rates[link.from_, link.to] = rate
        if not link.one_way:
            rates[link.to, link.from_] = rate
    for mesh in meshes:
        members = devices if mesh.devices == "all" else mesh.devices
        for a in members:
            for b in members:
                if a != b:
                    rates.setdefault((a, b), LinkRate(mesh.rate_bytes_per_s, mesh.delay_s))
    return rates
