"""Writing a calibration table: text that a person can read and compare, merged into what is there, atomically.

Merging never mixes what does not belong together: another power mode or other clocks, another cut of the model, another
back end or precision, or published figures over measured ones are refused, each with the way out.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, List

import msgspec

from pamdi.calibration.table import Chain, ModelTable, Run, Table, check_table, read_table
from pamdi.core.errors import ConfigError

HEAD = (
    "# Made by `pamdi calibrate latency`, or by calibration/derive.py from what others published (measured = false).\n"
)


def write_merged(path: Path, table: Table) -> Table:
    """``table`` into the file at ``path``, whole or not at all; what the file then holds. Raises ConfigError."""
    merged = merge(read_table(path), table, str(path)) if path.exists() else table
    check_table(merged, str(path))
    write_text(path, to_text(merged))
    return merged


def write_text(path: Path, text: str) -> None:
    """Atomically: a reader sees the old file or the new one. Raises ConfigError when it cannot be written."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=str(path.parent))
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise ConfigError(f"{path}: {error.strerror}: give a file in a folder that can be written") from error


def merge(old: Table, new: Table, where: str) -> Table:
    """``old`` with the models of ``new``. Raises ConfigError for what does not belong together."""
    if old.device_type != new.device_type:
        raise ConfigError(f"{where}: is of {old.device_type}, not {new.device_type}: write to another file")
    if old.power_mode != new.power_mode:
        raise ConfigError(
            f"{where}: was measured in power mode {old.power_mode!r}, this device is in {new.power_mode!r}: change it "
            "back (nvpmodel -m), or remove the file and measure all models again"
        )
    models = {model.id: model for model in old.model}
    for model in new.model:
        models[model.id] = merge_model(models[model.id], model, where) if model.id in models else model
    return msgspec.structs.replace(new, model=[models[id] for id in sorted(models)])


def merge_model(old: ModelTable, new: ModelTable, where: str) -> ModelTable:
    """What is new in place of what is old, segment by segment. Measured replaces derived as a whole."""
    where = f"{where}: model {new.id}"
    if old.measured != new.measured:
        if old.measured:
            raise ConfigError(f"{where}: published figures over measured ones: remove the model there first")
        return new
    if not old.measured:
        return new
    for what in ("units", "bytes", "source_sha256", "backend", "precision", "options"):
        before, now = getattr(old, what), getattr(new, what)
        if before != now:
            said = f"{what} there differ" if isinstance(now, list) else f"{what} there is {before!r}, now {now!r}"
            raise ConfigError(f"{where}: {said}: remove the model from the file and measure all of it again")
    runs = {(run.batch, run.stop - run.first, run.first): run for run in [*old.runs, *new.runs]}
    chains = {chain.batch: chain for chain in [*old.chains, *new.chains]}
    return msgspec.structs.replace(
        new, runs=[runs[key] for key in sorted(runs)], chains=[chains[key] for key in sorted(chains)]
    )


def to_text(table: Table) -> str:
    lines: List[str] = [HEAD + "# calibration/table.py says what each key means. Seconds, bytes."]
    for key in ("format", "device_type", "power_mode", "clocks"):
        lines.append(f"{key} = {_value(getattr(table, key))}")
    for model in table.model:
        lines += ["", "[[model]]"]
        for field in msgspec.structs.fields(model):
            value = getattr(model, field.name)
            if field.name in ("runs", "chains"):
                lines += [f"{field.name} = [", *(f"    {_entry(entry)}," for entry in value), "]"]
            elif value != "":
                lines.append(f"{field.name} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _entry(entry: "Run | Chain") -> str:
    pairs = [(field.name, getattr(entry, field.name)) for field in msgspec.structs.fields(entry)]
    said = [
        f"{name} = {_value(value)}" for name, value in pairs if value is not None and (name, value) != ("samples", 0)
    ]
    return "{ " + ", ".join(said) + " }"


def _value(value: Any) -> str:
    """A TOML value. A JSON string is a TOML string; floats keep four digits, as many as a measurement has."""
    if isinstance(value, float):
        text = f"{value:.4g}"
        return text if any(mark in text for mark in ".e") else text + ".0"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
