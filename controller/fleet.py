"""fleet.toml: devices, links, models and sources, as typed values. ``controller.toml`` shares its tables.

Units: seconds, bytes, hertz. Unknown keys are errors. Links go both ways unless ``one_way``; ``[[mesh]]`` is a
shorthand for every pair of its devices that has no link of its own. Whoever writes such a file by hand errs in it:
everything is checked before anything is done with it, and every complaint says what, where, and how to mend it.
"""

from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Tuple, TypeVar, Union

import msgspec

from pamdi.calibration.lookup import folders_for, model_costs
from pamdi.client.toml_file import read_toml
from pamdi.core.allocation import SourceSpec
from pamdi.core.errors import ConfigError
from pamdi.core.topics import valid_id

Unit = Tuple[str, int]  # a model's id and the number of one of its units


class DeviceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``memory_bytes``: for engines; ``overhead_s``: added to every visit."""

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
    """``devices``: a list of ids, or "all"."""

    devices: Union[str, List[str]]
    rate_bytes_per_s: float
    delay_s: float = 0.0
    fail_probability: float = 0.0
    medium: Optional[str] = None


class MergedEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Units [first, stop) as one segment take ``seconds``, which need not be their sum."""

    first: int
    stop: int
    seconds: float


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``bytes``: what enters each unit, then the output; ``memory``: bytes to hold each unit; ``seconds``: per device
    type, per unit; ``merged``: per device type, segments of several units where their time is known;
    ``batch_seconds``: as ``seconds``, per batch above 1, such as ["orin-nano"]["4"], where engines were built for
    batches. ``table`` names a calibration table instead."""

    id: str
    units: List[str] = []
    bytes: List[int] = []
    memory: List[int] = []
    seconds: Dict[str, List[float]] = {}
    table: Optional[str] = None
    merged: Dict[str, List[MergedEntry]] = {}
    batch_seconds: Dict[str, Dict[str, List[float]]] = {}

    def by_batch(self, type: str, first: int, stop: int, overhead_s: float = 0.0) -> Tuple[Tuple[int, float], ...]:
        """(batch, seconds) of units [first, stop) on a device of ``type``, as a Resident has them."""
        known = self.batch_seconds.get(type, {})
        return tuple(sorted((int(b), sum(units[first:stop]) + overhead_s) for b, units in known.items()))


class SourceEntry(SourceSpec, frozen=True, forbid_unknown_fields=True):
    """A :class:`SourceSpec` as a person writes it: a mistyped key is an error."""

    def spec(self) -> SourceSpec:
        return SourceSpec(**msgspec.structs.asdict(self))


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device: List[DeviceEntry] = []
    link: List[LinkEntry] = []
    mesh: List[MeshEntry] = []
    model: List[ModelEntry] = []
    source: List[SourceEntry] = []
    loss_penalty_s: float = 10.0


AnyFleet = TypeVar("AnyFleet", bound=Fleet)


def read_fleet(path: Path) -> Fleet:
    """Raises ConfigError: what, where, how to mend."""
    fleet = with_tables(read_toml(path, Fleet), path)
    check_fleet(fleet, str(path))
    return fleet


def with_tables(fleet: AnyFleet, path: Path) -> AnyFleet:
    """``fleet`` with every ``table`` looked up for the types of its devices. Raises ConfigError."""
    types = sorted({device.type for device in fleet.device})
    models = [_from_table(model, types, path) if model.table is not None else model for model in fleet.model]
    return msgspec.structs.replace(fleet, model=models)


def _from_table(model: ModelEntry, types: Sequence[str], path: Path) -> ModelEntry:
    assert model.table is not None
    if model.units or model.bytes or model.memory or model.seconds or model.merged:
        raise ConfigError(
            f"{path}: model {model.id}: table and its own units, bytes, memory, seconds or merged: keep one of both"
        )
    costs = model_costs(model.table, types, folders_for(path), f"{path}: model {model.id}")
    merged = {type: [MergedEntry(*each) for each in found] for type, found in costs.merged.items()}
    batches = {**costs.batch_seconds, **model.batch_seconds}  # what is written here goes before the table
    return ModelEntry(
        model.id, costs.units, costs.bytes, costs.memory, costs.seconds, merged=merged, batch_seconds=batches
    )  # fmt: skip


def check_fleet(fleet: Fleet, where: str) -> None:
    """Raises ConfigError for the first thing that cannot be."""
    check_ids("device", [device.id for device in fleet.device], where)
    check_ids("model", [model.id for model in fleet.model], where)
    for device in fleet.device:
        _check_device(device, where)
    devices = {device.id for device in fleet.device}
    check_links(fleet.link, fleet.mesh, where)
    for link in fleet.link:
        for id in (link.from_, link.to):
            _must_know("device", id, devices, f"{where}: link {link.from_} -> {link.to}")
    for mesh in fleet.mesh:
        for id in [] if isinstance(mesh.devices, str) else mesh.devices:
            _must_know("device", id, devices, f"{where}: mesh")
    for model in fleet.model:
        check_model(model, where)
        for device in fleet.device:
            if device.type not in model.seconds:
                raise ConfigError(f"{where}: model {model.id} has no seconds for device type {device.type}: add them")
    check_sources(fleet.source, {model.id for model in fleet.model}, where)
    for source in fleet.source:
        _must_know("device", source.device, devices, f"{where}: source {source.id}")
    if not 0 <= fleet.loss_penalty_s < float("inf"):
        raise ConfigError(f"{where}: loss_penalty_s is {fleet.loss_penalty_s}: it must be 0 or more, and finite")


def check_model(model: ModelEntry, where: str) -> None:
    if model.table is not None:
        raise ConfigError(
            f"{where}: model {model.id}: table {model.table!r} has not been looked up: "
            "write units, bytes, memory and [model.seconds] instead"
        )
    count = len(model.units)
    if not count or len(model.bytes) != count + 1 or len(model.memory) != count:
        raise ConfigError(
            f"{where}: model {model.id}: {count} units need {count + 1} bytes and {count} memory, "
            f"there are {len(model.bytes)} and {len(model.memory)}"
        )
    if min(model.bytes) < 0 or min(model.memory) < 0:
        raise ConfigError(f"{where}: model {model.id}: a negative size in bytes or memory: sizes are 0 or more")
    if not model.seconds:
        raise ConfigError(f"{where}: model {model.id}: [model.seconds] is empty: one list of {count} per device type")
    for kind, seconds in model.seconds.items():
        if len(seconds) != count or not all(0 < s < float("inf") for s in seconds):
            raise ConfigError(
                f"{where}: model {model.id}: seconds of {kind} must be {count} positive numbers, one per unit"
            )
    for kind, batches in model.batch_seconds.items():
        for batch, seconds in batches.items():
            good = len(seconds) == count and all(0 < s < float("inf") for s in seconds)
            if not good or not batch.isdecimal() or int(batch) < 2:
                raise ConfigError(
                    f"{where}: model {model.id}: batch_seconds of {kind}, batch {batch}: batches from 2, each with "
                    f"{count} positive numbers, one per unit"
                )

    for kind, merged in model.merged.items():
        _check_merged(model, kind, merged, f"{where}: model {model.id}: merged of {kind}")


def _check_merged(model: ModelEntry, kind: str, merged: Sequence[MergedEntry], where: str) -> None:
    if kind not in model.seconds:
        raise ConfigError(f"{where}: [model.seconds] has no {kind}: add the seconds of its units")
    for piece, count in Counter((piece.first, piece.stop) for piece in merged).items():
        if count > 1:
            raise ConfigError(f"{where}: {piece[0]}:{piece[1]} is there {count} times: keep one")
        if not 0 <= piece[0] < piece[1] - 1 < len(model.units):
            raise ConfigError(f"{where}: {piece[0]}:{piece[1]} is not two units or more of {len(model.units)}")
    if not all(0 < piece.seconds < float("inf") for piece in merged):
        raise ConfigError(f"{where}: seconds must be positive and finite")


def check_links(links: Sequence[LinkEntry], meshes: Sequence[MeshEntry], where: str) -> None:
    for link in links:
        name = f"{where}: link {link.from_} -> {link.to}"
        if link.from_ == link.to:
            raise ConfigError(f"{name}: a device needs no link to itself: remove it")
        _check_rate(link, name)
    pairs = Counter((link.from_, link.to) for link in links)
    pairs.update((link.to, link.from_) for link in links if not link.one_way)
    for (a, b), count in sorted(pairs.items()):
        if count > 1:
            raise ConfigError(f"{where}: link {a} -> {b} is declared {count} times: keep one, or set one_way = true")
    for mesh in meshes:
        if isinstance(mesh.devices, str) and mesh.devices != "all":
            raise ConfigError(f'{where}: mesh: devices = {mesh.devices!r}: write a list of ids, or "all"')
        _check_rate(mesh, f"{where}: mesh of {mesh.devices if isinstance(mesh.devices, str) else len(mesh.devices)}")


def check_sources(sources: Sequence[SourceEntry], models: Iterable[str], where: str) -> None:
    """Beside what each says of itself (``SourceSpec``)."""
    check_ids("source", [source.id for source in sources], where)
    for source in sources:
        _must_know("model", source.model, models, f"{where}: source {source.id}")
        if not 0 < source.gamma < float("inf") or not 0 < source.rate_hz < float("inf"):
            raise ConfigError(f"{where}: source {source.id}: gamma and rate_hz must be positive and finite")


def check_ids(what: str, ids: Sequence[str], where: str) -> None:
    for id, count in Counter(ids).items():
        if not valid_id(id):
            raise ConfigError(f"{where}: {what} id {id!r}: {_ID_RULE}")
        if count > 1:
            raise ConfigError(f"{where}: {count} [[{what}]] tables have the id {id!r}: rename all but one")


_ID_RULE = "use letters, digits, _ . -, at most 64"


def _check_device(device: DeviceEntry, where: str) -> None:
    if device.memory_bytes < 0 or not 0 <= device.overhead_s < float("inf"):
        raise ConfigError(f"{where}: device {device.id}: memory_bytes and overhead_s must be 0 or more")
    if not 0 <= device.fail_probability < 1:
        raise ConfigError(f"{where}: device {device.id}: fail_probability must be in [0, 1)")


def _check_rate(link: "LinkEntry | MeshEntry", name: str) -> None:
    if not 0 < link.rate_bytes_per_s < float("inf") or not 0 <= link.delay_s < float("inf"):
        raise ConfigError(f"{name}: rate_bytes_per_s must be positive, delay_s 0 or more, both finite")
    if not 0 <= link.fail_probability < 1:
        raise ConfigError(f"{name}: fail_probability must be in [0, 1)")


def _must_know(what: str, id: str, known: Iterable[str], where: str) -> None:
    if id not in known:
        declared = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"{where}: no {what} {id!r}: declared are {declared}; add a [[{what}]] with that id")
