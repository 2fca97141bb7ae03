"""controller.toml: sources, models (by their exported folders), links, and how patient to be."""

from pathlib import Path
from typing import Dict, List, Tuple

import msgspec

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.toml_file import read_toml
from pamdi.controller.fleet import LinkEntry, MeshEntry, SourceEntry, link_rates
from pamdi.controller.placement import ModelFacts, Unit
from pamdi.controller.rollout import Wanted
from pamdi.core.allocation import ModelSpec, SourceSpec
from pamdi.core.errors import ConfigError
from pamdi.core.policy import policy_named
from pamdi.core.topics import valid_id
from pamdi.engines.manifest import Manifest, read_manifest


class ModelFolder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``dir``: a folder made by ``pamdi engines export``; ``seconds``: per device type, one number per unit."""

    id: str
    dir: str
    seconds: Dict[str, List[float]]


class ControllerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    broker: BrokerConfig = BrokerConfig()
    state_dir: str = "/var/lib/pamdi"
    policy: str = "pa-mdi"
    settle_s: float = 0.5
    gone_after_s: float = 10.0
    default_rate_bytes_per_s: float = 12_500_000.0
    default_delay_s: float = 0.001
    model: List[ModelFolder] = []
    source: List[SourceEntry] = []
    link: List[LinkEntry] = []
    mesh: List[MeshEntry] = []


def read_config(path: Path) -> Tuple[ControllerConfig, Wanted]:
    """The file, and what it asks of the fleet. Raises PamdiError in one line."""
    config = read_toml(path, ControllerConfig)
    policy_named(config.policy)
    config.broker.address()
    manifests = {model.id: _manifest(path, model) for model in config.model}
    models = {model.id: _facts(path, model, manifests[model.id]) for model in config.model}
    sources = tuple(_source(path, entry, models) for entry in config.source)
    if len({source.id for source in sources}) < len(sources):
        raise ConfigError(f"{path}: two [[source]] tables have the same id: rename one")
    ids = sorted({s.device for s in sources} | {d for m in config.mesh if m.devices != "all" for d in m.devices})
    rates = {pair: (r.rate_bytes_per_s, r.delay_s) for pair, r in link_rates(ids, config.link, config.mesh).items()}
    default = (config.default_rate_bytes_per_s, config.default_delay_s)
    for mesh in config.mesh:
        if mesh.devices == "all":
            default = (mesh.rate_bytes_per_s, mesh.delay_s)
    digests: Dict[Unit, str] = {
        (id, info.first): info.sha256
        for id, manifest in manifests.items()
        for info in manifest.segments
        if info.stop == info.first + 1
    }
    specs = {id: _spec(id, manifest) for id, manifest in manifests.items()}
    return config, Wanted(
        models, specs, digests, sources, rates, default, config.policy, config.settle_s, config.gone_after_s
    )  # fmt: skip


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


def _facts(path: Path, model: ModelFolder, manifest: Manifest) -> ModelFacts:
    count = len(manifest.units)
    if not model.seconds:
        raise ConfigError(f"{path}: model {model.id}: [model.seconds] is empty: one list of {count} per device type")
    for kind, seconds in model.seconds.items():
        if len(seconds) != count or not all(s > 0 for s in seconds):
            raise ConfigError(
                f"{path}: model {model.id}: seconds of {kind}: need {count} positive numbers, one per unit"
            )
    memory = tuple(unit.memory_bytes for unit in manifest.units)
    return ModelFacts(model.id, manifest.bytes, memory, {kind: tuple(s) for kind, s in model.seconds.items()})


def _source(path: Path, entry: SourceEntry, models: Dict[str, ModelFacts]) -> SourceSpec:
    if entry.model not in models:
        known = ", ".join(models) or "none"
        raise ConfigError(f"{path}: source {entry.id}: no model {entry.model!r}: declared are {known}")
    for what, id in (("source", entry.id), ("device", entry.device)):
        if not valid_id(id):
            raise ConfigError(f"{path}: {what} id {id!r}: use letters, digits, _ . -, at most 64")
    try:
        return SourceSpec(**msgspec.structs.asdict(entry))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _spec(id: str, manifest: Manifest) -> ModelSpec:
    inputs = tuple(
        (tensor.name, tensor.dtype, tuple(size if isinstance(size, int) else -1 for size in tensor.shape))
        for tensor in manifest.boundaries[0]
    )
    return ModelSpec(id, manifest.bytes, inputs)


__all__ = ["ControllerConfig", "read_config"]
