"""controller.toml: sources, models (by their exported folders), links, and how patient to be.

A model's seconds stand in the file, or in calibration tables that it names.
"""

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import msgspec

from pamdi.calibration.lookup import tables_at
from pamdi.calibration.table import UNAVAILABLE, batch_seconds, unit_seconds
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.toml_file import read_toml
from pamdi.controller.allocation import SOLVERS
from pamdi.controller.fleet import (
    LinkEntry,
    MeshEntry,
    ModelEntry,
    SourceEntry,
    Unit,
    check_ids,
    check_links,
    check_model,
    check_sources,
)
from pamdi.controller.slowed import Terms as SpeedTerms
from pamdi.controller.solver.moving import Terms as MovingTerms
from pamdi.controller.wanted import Wanted
from pamdi.core.allocation import ModelSpec
from pamdi.core.errors import ConfigError, PamdiError
from pamdi.core.policy import policy_named
from pamdi.engines.manifest import Manifest, read_manifest

RESIDENTS = ("plan", "all")


class ModelFolder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``dir``: a folder made by ``pamdi engines export``; ``seconds``: per device type, one number per unit;
    ``batch_seconds``: the same per batch above 1; or, in place of both, ``table``: a file made by ``pamdi calibrate
    latency``, or a folder of such files. ``batch_seconds`` of a type go before its table's."""

    id: str
    dir: str
    seconds: Dict[str, List[float]] = {}
    table: Optional[str] = None
    batch_seconds: Dict[str, Dict[str, List[float]]] = {}


class ControllerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``examples/controller.toml`` shows every key with its unit."""

    broker: BrokerConfig = BrokerConfig()
    state_dir: str = "/var/lib/pamdi"
    policy: str = "pa-mdi"
    residents: str = "plan"
    solver: str = "fast"  # "first": the plain heuristic alone
    settle_s: float = 0.5
    gone_after_s: float = 10.0
    load_s_max: float = 600.0
    retry_after_s: float = 60.0
    default_rate_bytes_per_s: float = 12_500_000.0  # 0: pairs that are not declared have no link
    default_delay_s: float = 0.001
    slow_factor: float = 1.5  # 0: whatever devices measure, the table is believed
    normal_factor: float = 1.2
    slow_delay_s: float = 30.0
    slow_forget_s: float = 600.0
    link_slow_factor: float = 1.5  # 0: whatever devices measure, links are as stated
    link_slow_delay_s: float = 150.0
    move_gain_min: float = 0.02
    move_horizon_s: float = 600.0
    load_bytes_per_s: float = 50e6
    model: List[ModelFolder] = []
    source: List[SourceEntry] = []
    link: List[LinkEntry] = []
    mesh: List[MeshEntry] = []


def read_config(path: Path) -> Tuple[ControllerConfig, Wanted]:
    """The file, and what it asks of the fleet. Raises PamdiError in one line."""
    config = read_toml(path, ControllerConfig)
    where = str(path)
    _check(config, where)
    check_ids("model", [model.id for model in config.model], where)
    manifests = {model.id: _manifest(path, model) for model in config.model}
    measured = {model.id: _measured(path, model, manifests[model.id]) for model in config.model}
    models = {model.id: _costs(where, model, manifests[model.id], measured[model.id]) for model in config.model}
    check_sources(config.source, models, where)
    check_links(config.link, config.mesh, where)
    digests: Dict[Unit, str] = {
        (id, info.first): info.sha256
        for id, manifest in manifests.items()
        for info in manifest.segments
        if info.stop == info.first + 1
    }
    default = (config.default_rate_bytes_per_s, config.default_delay_s) if config.default_rate_bytes_per_s else None
    return config, Wanted(
        models=models,
        specs={id: _spec(id, manifest) for id, manifest in manifests.items()},
        digests=digests,
        sources=tuple(config.source),
        links=tuple(config.link),
        meshes=tuple(config.mesh),
        default_link=default,
        policy=config.policy,
        residents=config.residents,
        solver=config.solver,
        settle_s=config.settle_s,
        gone_after_s=config.gone_after_s,
        load_s_max=config.load_s_max,
        retry_after_s=config.retry_after_s,
        speed=SpeedTerms(config.slow_factor, config.normal_factor, config.slow_delay_s, config.slow_forget_s),
        link_terms=SpeedTerms(
            config.link_slow_factor, config.normal_factor, config.link_slow_delay_s, config.slow_forget_s
        ),
        moving=MovingTerms(config.move_gain_min, config.move_horizon_s, config.load_bytes_per_s),
        power_modes={(id, type): m.power_mode for id, by in measured.items() for type, m in by.items() if m.power_mode},
    )


def _check(config: ControllerConfig, where: str) -> None:
    try:
        policy_named(config.policy)
        config.broker.address()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if config.residents not in RESIDENTS:
        raise ConfigError(f"{where}: residents = {config.residents!r}: one of {', '.join(RESIDENTS)}")
    if config.solver not in SOLVERS:
        raise ConfigError(f"{where}: solver = {config.solver!r}: one of {', '.join(SOLVERS)}")
    for name in ("settle_s", "gone_after_s", "default_rate_bytes_per_s", "default_delay_s", "move_gain_min"):
        if not 0 <= getattr(config, name) < float("inf"):
            raise ConfigError(f"{where}: {name} is {getattr(config, name)}: it must be 0 or more, and finite")
    for name in (
        "load_s_max", "retry_after_s", "slow_delay_s", "slow_forget_s", "link_slow_delay_s", "move_horizon_s",
        "load_bytes_per_s",
    ):  # fmt: skip
        if not 0 < getattr(config, name) < float("inf"):
            raise ConfigError(f"{where}: {name} is {getattr(config, name)}: it must be positive and finite")
    for name, what in (("slow_factor", "the tables"), ("link_slow_factor", "the links that are stated")):
        factor = getattr(config, name)
        if factor and not 1 <= config.normal_factor <= factor < float("inf"):
            raise ConfigError(
                f"{where}: {name} is {factor}, normal_factor {config.normal_factor}: "
                f"1 <= normal_factor <= {name}, or {name} = 0 to believe {what}"
            )


def _manifest(path: Path, model: ModelFolder) -> Manifest:
    manifest = read_manifest(path.parent / model.dir)
    if manifest.model != model.id:
        raise ConfigError(
            f"{path}: model {model.id}: {model.dir} holds {manifest.model}: use that id or another folder"
        )
    missing = set(range(len(manifest.units))) - {s.first for s in manifest.segments if s.stop == s.first + 1}
    if missing:
        raise ConfigError(f"{path}: model {model.id}: no segment for unit {min(missing)}: export every unit")
    return manifest


class _Measured(NamedTuple):
    """Of one model on one device type. ``power_mode``: "" where the table does not know it."""

    seconds: List[float]
    batch_seconds: Dict[str, List[float]]
    power_mode: str


def _measured(path: Path, model: ModelFolder, manifest: Manifest) -> Dict[str, _Measured]:
    """By device type, from the tables that the model names; empty when it names none."""
    where = f"{path}: model {model.id}"
    if model.table is None:
        return {}
    if model.seconds:
        raise ConfigError(f"{where}: table and [model.seconds]: keep one of both")
    found = tables_at(path.parent / model.table, model.id, manifest.source_sha256, where)
    names = [unit.name for unit in manifest.units]
    for table, costs in found:
        if costs.units != names or costs.bytes != list(manifest.bytes):
            raise ConfigError(
                f"{where}: table {model.table}: {table.device_type} was measured with {len(costs.units)} other units "
                f"than the {len(names)} of {model.dir}: calibrate that folder"
            )
    return {
        table.device_type: _Measured(
            unit_seconds(costs), batch_seconds(costs), "" if table.power_mode == UNAVAILABLE else table.power_mode
        )
        for table, costs in found
    }  # fmt: skip


def _costs(where: str, model: ModelFolder, manifest: Manifest, measured: Dict[str, _Measured]) -> ModelEntry:
    entry = ModelEntry(
        model.id,
        [unit.name for unit in manifest.units],
        list(manifest.bytes),
        [unit.memory_bytes for unit in manifest.units],
        model.seconds or {type: each.seconds for type, each in measured.items()},
        batch_seconds={
            **{type: m.batch_seconds for type, m in measured.items() if m.batch_seconds},
            **model.batch_seconds,
        },
    )
    check_model(entry, where)
    return entry


def _spec(id: str, manifest: Manifest) -> ModelSpec:
    inputs = tuple(
        (tensor.name, tensor.dtype, tuple(size if isinstance(size, int) else -1 for size in tensor.shape))
        for tensor in manifest.boundaries[0]
    )
    return ModelSpec(id, manifest.bytes, inputs)


class WatchedConfig:
    """The file as it was last good, and whether it has changed since. A bad edit keeps what was good before."""

    def __init__(self, path: Path) -> None:
        """Raises PamdiError when the file cannot be used."""
        self._path = path
        self._stamp = self._look()
        self.config, self.wanted = read_config(path)
        self.rejected = ""  # why the present content is not in use

    def changed(self, whatever: bool = False) -> Optional[Wanted]:
        """The new configuration, once per change (``whatever``: even without one). Raises PamdiError once per bad
        edit."""
        stamp = self._look()
        if stamp == self._stamp and not whatever:
            return None
        self._stamp = stamp
        try:
            config, wanted = read_config(self._path)
            if (config.broker, config.state_dir) != (self.config.broker, self.config.state_dir):
                raise ConfigError(f"{self._path}: [broker] or state_dir has changed: restart the controller for that")
        except PamdiError as error:
            self.rejected = str(error)
            raise
        self.config, self.wanted, self.rejected = config, wanted, ""
        return wanted

    def _look(self) -> Tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)


__all__ = ["ControllerConfig", "WatchedConfig", "read_config"]
