"""``table = "resnet56"`` in a fleet.toml: units, bytes, memory and seconds from the calibration tables.

Tables are looked for in ``calibration/tables`` beside the file that asks, then among those that come with pamdi: what
somebody measured goes before what was published. A model must be cut alike in all tables that one fleet needs, because
a unit's number means the same on every device.
"""

from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from pamdi.calibration.table import ModelTable, Table, batch_seconds, merged_seconds, read_table, unit_seconds
from pamdi.core.errors import ConfigError

SHIPPED = Path(__file__).resolve().parent / "tables"


class ModelCosts(NamedTuple):
    """Of one model, for one input: as the keys of a [[model]] in fleet.toml. ``merged``: (first, stop, seconds) of each
    segment of more than one unit that was measured. ``batch_seconds``: per type and batch above 1, seconds per unit."""

    units: List[str]
    bytes: List[int]
    memory: List[int]
    seconds: Dict[str, List[float]]
    merged: Dict[str, List[Tuple[int, int, float]]]
    batch_seconds: Dict[str, Dict[str, List[float]]]


def folders_for(file: Path) -> List[Path]:
    return [file.parent / "calibration" / "tables", SHIPPED]


def model_costs(name: str, types: Iterable[str], folders: Iterable[Path], where: str) -> ModelCosts:
    """The table ``name`` for these device types. Raises ConfigError: what, where, how to mend."""
    folders = list(folders)
    found: Dict[str, ModelTable] = {}
    for type in sorted(set(types)):
        found[type] = _find(name, type, folders, where)
    if not found:
        raise ConfigError(f"{where}: table {name!r}: there is no device to look it up for: add a [[device]]")
    first_type, first = next(iter(found.items()))
    for type, model in found.items():
        for what in ("units", "bytes"):
            if getattr(model, what) != getattr(first, what):
                raise ConfigError(
                    f"{where}: table {name!r}: {type} and {first_type} were calibrated with different cuts "
                    f"({what} differ): calibrate both with one export"
                )
    seconds = {type: unit_seconds(model) for type, model in found.items()}
    merged = {type: merged_seconds(model) for type, model in found.items() if merged_seconds(model)}
    batches = {type: batch_seconds(model) for type, model in found.items() if batch_seconds(model)}
    return ModelCosts(first.units, first.bytes, first.memory, seconds, merged, batches)


def tables_at(place: Path, name: str, digest: str, where: str) -> List[Tuple[Table, ModelTable]]:
    """What ``pamdi calibrate latency`` wrote of model ``name`` into the file ``place``, or into the files of that
    folder: each table that has it. ``digest``: of the uncut model. Raises ConfigError when nothing there is of it."""
    files = sorted(place.glob("*.toml")) if place.is_dir() else [place]
    tables = [read_table(file) for file in files]
    found = [(table, model) for table in tables for model in table.model if model.id == name]
    if not found:
        known = ", ".join(sorted({model.id for table in tables for model in table.model})) or "no model"
        raise ConfigError(f"{where}: table {place} has {known}: measure it, `pamdi calibrate latency DIR --out FILE`")
    for table, model in found:
        if model.source_sha256 and digest and model.source_sha256 != digest:
            raise ConfigError(
                f"{where}: table {place}: {table.device_type} was measured with another {name} "
                f"({model.source_sha256[:12]}, its folder has {digest[:12]}): calibrate the one that is served"
            )
    return found


def _find(name: str, type: str, folders: List[Path], where: str) -> ModelTable:
    known: List[str] = []
    for folder in folders:
        path = folder / f"{type}.toml"
        if path.is_file():
            table = read_table(path)
            model = named(table.model, name)
            if model is not None:
                return model
            known += [model.id for model in table.model]
    have = f"it has {', '.join(sorted(set(known)))}" if known else f"there is no {type}.toml in {_names(folders)}"
    raise ConfigError(
        f"{where}: no calibration table {name!r} for device type {type}: {have}; measure it on such a device with "
        f"`pamdi calibrate latency DIR --device {type}`, or write units, bytes, memory and [model.seconds]"
    )


def named(models: Iterable[ModelTable], name: str) -> Optional[ModelTable]:
    return next((model for model in models if model.id == name), None)


def _names(folders: List[Path]) -> str:
    return " or ".join(str(folder) for folder in folders)
