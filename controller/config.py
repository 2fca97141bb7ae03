"""controller.toml: sources, models (by their exported folders), links, and how patient to be."""

from pathlib import Path
from typing import Dict, List, Optional, Tuple

import msgspec

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
from pamdi.controller.wanted import Wanted
from pamdi.core.allocation import ModelSpec
from pamdi.core.errors import ConfigError
from pamdi.core.policy import policy_named
from pamdi.engines.manifest import Manifest, read_manifest

RESIDENTS = ("plan", "all")


class ModelFolder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``dir``: a folder made by ``pamdi engines export``; ``seconds``: per device type, one number per unit;
    ``batch_seconds``: the same per batch above 1."""

    id: str
    dir: str
    seconds: Dict[str, List[float]]
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
    models = {model.id: _costs(where, model, manifests[model.id]) for model in config.model}
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
    for name in ("settle_s", "gone_after_s", "default_rate_bytes_per_s", "default_delay_s"):
        if not 0 <= getattr(config, name) < float("inf"):
            raise ConfigError(f"{where}: {name} is {getattr(config, name)}: it must be 0 or more, and finite")
    for name in ("load_s_max", "retry_after_s"):
        if not 0 < getattr(config, name) < float("inf"):
            raise ConfigError(f"{where}: {name} is {getattr(config, name)}: it must be positive and finite")


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


def _costs(where: str, model: ModelFolder, manifest: Manifest) -> ModelEntry:
    entry = ModelEntry(
        model.id,
        [unit.name for unit in manifest.units],
        list(manifest.bytes),
        [unit.memory_bytes for unit in manifest.units],
        model.seconds,
        batch_seconds=model.batch_seconds,
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

    def changed(self, whatever: bool = False) -> Optional[Wanted]:
        """The new configuration, once per change (``whatever``: even without one). Raises PamdiError once per bad
        edit."""
        stamp = self._look()
        if stamp == self._stamp and not whatever:
            return None
        self._stamp = stamp
        config, wanted = read_config(self._path)
        if (config.broker, config.state_dir) != (self.config.broker, self.config.state_dir):
            raise ConfigError(f"{self._path}: [broker] or state_dir has changed: restart the controller for that")
        self.config, self.wanted = config, wanted
        return wanted

    def _look(self) -> Tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)


__all__ = ["ControllerConfig", "WatchedConfig", "read_config"]
