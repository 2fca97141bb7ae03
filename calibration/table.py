"""calibration/tables/<device type>.toml: how long each segment of each model takes on one type of device.

One file per device type, because what decides the speed of all its models (power mode, clocks) is said once, at the
head: a profile holds for one power mode, and models measured in two cannot get into one file. Which model was measured
when, with which back end, or derived from which published figure, stands with the model.

    device_type, power_mode, clocks          of the file; "unavailable" where it could not be read
    [[model]]                                id, units, bytes, memory as in fleet.toml; source, date, back end
    runs = [{first, stop, batch, seconds, low_s, high_s, samples}, ...]    segments on their own
    chains = [{batch, seconds, low_s, high_s, samples}, ...]               all units, one after the other

``seconds`` are medians, ``low_s`` to ``high_s`` the median's 95 % interval, ``samples`` how many. What was not measured
(``measured = false``) has no interval, and has a source with an address and a sentence on what was made of it.

A table that does not add up is refused, by the reader and by the writer: at each batch the units' sum must be the
chain's time within ``tolerance`` (plus what a call costs, per unit), or the board was not the same all the while.
"""

from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

import msgspec

from pamdi.client.toml_file import read_toml
from pamdi.core.errors import ConfigError
from pamdi.core.topics import valid_id

FORMAT = 1
UNAVAILABLE = "unavailable"
TOLERANCE = 0.25
CALL_S = 2e-5  # a call's own cost, which may hide in a unit's time and not in the chain's
_AGAIN = "measure again on a quiet board with fixed clocks"
MERGED_GAIN_MAX = 4.0  # a merged segment may be faster than its units by fusion and saved launches; not for ever


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Units first to stop - 1 as one segment, for ``batch`` inputs at once."""

    first: int
    stop: int
    batch: int
    seconds: float
    low_s: Optional[float] = None
    high_s: Optional[float] = None
    samples: int = 0


class Chain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All units one after the other: the whole, against which the parts are checked."""

    batch: int
    seconds: float
    low_s: Optional[float] = None
    high_s: Optional[float] = None
    samples: int = 0


class ModelTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``bytes`` (what enters each unit, then the output) and ``memory`` (weights of each unit) are for one input, from
    the model's manifest. ``source``: "measured", or where the figure is published; ``derived``: how the rest was made
    of it. ``machine``: the board or processor that it was measured on."""

    id: str
    measured: bool
    source: str
    date: str
    backend: str
    precision: str
    units: List[str]
    bytes: List[int]
    memory: List[int]
    runs: List[Run]
    chains: List[Chain]
    derived: str = ""
    options: str = ""
    machine: str = ""
    source_sha256: str = ""
    temperature_c: Union[float, str] = UNAVAILABLE
    tolerance: float = TOLERANCE

    def seconds_of(self, first: int, stop: int, batch: int = 1) -> Optional[float]:
        """What the segment takes: as measured where it was, else its units' sum. None where neither is known."""
        runs = self.by_segment(batch)
        if (first, stop) in runs:
            return runs[first, stop].seconds
        units = [runs.get((unit, unit + 1)) for unit in range(first, stop)]
        return None if None in units else sum(unit.seconds for unit in units if unit is not None)

    def by_segment(self, batch: int) -> Dict[Tuple[int, int], Run]:
        return {(run.first, run.stop): run for run in self.runs if run.batch == batch}


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device_type: str
    format: int = FORMAT
    power_mode: str = UNAVAILABLE
    clocks: str = UNAVAILABLE
    model: List[ModelTable] = []


def read_table(path: Path) -> Table:
    """Raises ConfigError: what, where, how to mend."""
    if not path.exists():
        raise ConfigError(f"{path}: no such table: `pamdi calibrate latency` writes it, or mend the `table` entry")
    table = read_toml(path, Table, environment={})
    check_table(table, str(path))
    if path.stem != table.device_type:
        raise ConfigError(f"{path}: device_type is {table.device_type!r}: rename the file to {table.device_type}.toml")
    return table


def check_table(table: Table, where: str) -> None:
    """Raises ConfigError for the first thing that cannot be."""
    if table.format != FORMAT:
        raise ConfigError(
            f"{where}: format {table.format}, this version reads {FORMAT}: update pamdi, or measure again"
        )
    if not valid_id(table.device_type):
        raise ConfigError(f"{where}: device_type {table.device_type!r}: use letters, digits, _ . -, at most 64")
    ids = [model.id for model in table.model]
    for model in table.model:
        here = f"{where}: model {model.id}"
        if ids.count(model.id) > 1:
            raise ConfigError(f"{here} is there {ids.count(model.id)} times: keep one")
        _check_shape(model, here)
        _check_source(model, here)
        entries: Sequence[Union[Run, Chain]] = [*model.runs, *model.chains]
        for entry in entries:
            _check_entry(entry, model.measured, here)
        check_sum(model, here)


def check_sum(model: ModelTable, where: str) -> None:
    """The sum of the parts against the whole, at every batch. Raises ConfigError when the table does not add up."""
    count, chains = len(model.units), {chain.batch: chain for chain in model.chains}
    for batch in sorted({run.batch for run in model.runs}):
        runs = model.by_segment(batch)
        missing = [unit for unit in range(count) if (unit, unit + 1) not in runs]
        if missing:
            raise ConfigError(f"{where}: batch {batch} has no seconds for unit {missing[0]}: measure every unit")
        if batch not in chains:
            raise ConfigError(
                f"{where}: batch {batch} has no chain, nothing to check the units against: measure it again"
            )
        units = [runs[unit, unit + 1].seconds for unit in range(count)]
        whole_s = chains[batch].seconds
        if abs(sum(units) - whole_s) > model.tolerance * whole_s + count * CALL_S:
            raise ConfigError(
                f"{where}: batch {batch} does not add up: the units' sum is {sum(units):.6f} s, in a chain they "
                f"take {whole_s:.6f} s, {model.tolerance:.0%} is allowed: {_AGAIN}"
            )
        for (first, stop), run in runs.items():
            _check_merged(run, sum(units[first:stop]), model.tolerance, where)


def _check_merged(run: Run, parts_s: float, tolerance: float, where: str) -> None:
    """A merged segment may be faster than its units, within reason, and hardly slower."""
    slack_s = (run.stop - run.first) * CALL_S
    too_slow = run.seconds > (1 + tolerance) * parts_s + slack_s
    too_fast = run.seconds + slack_s < parts_s / MERGED_GAIN_MAX
    if too_slow or too_fast:
        raise ConfigError(
            f"{where}: batch {run.batch} does not add up: segment {run.first}:{run.stop} takes {run.seconds:.6f} s, "
            f"its units {parts_s:.6f} s: {_AGAIN}"
        )


def _check_shape(model: ModelTable, where: str) -> None:
    count = len(model.units)
    if not valid_id(model.id):
        raise ConfigError(f"{where}: that is not an id: use letters, digits, _ . -, at most 64")
    if not count or len(model.bytes) != count + 1 or len(model.memory) != count:
        raise ConfigError(
            f"{where}: {count} units need {count + 1} bytes and {count} memory, there are {len(model.bytes)} and "
            f"{len(model.memory)}"
        )
    if min([*model.bytes, *model.memory]) < 0:
        raise ConfigError(f"{where}: a negative size in bytes or memory: sizes are 0 or more")
    if not model.runs:
        raise ConfigError(f"{where}: runs is empty: measure it with `pamdi calibrate latency`")
    if not 0 < model.tolerance < 1:
        raise ConfigError(f"{where}: tolerance is {model.tolerance}: it must be in (0, 1)")
    for what, keys in (
        ("run", [(r.first, r.stop, r.batch) for r in model.runs]),
        ("chain", [c.batch for c in model.chains]),
    ):
        if len(set(keys)) != len(keys):
            raise ConfigError(f"{where}: a {what} is there twice: keep one")
    for run in model.runs:
        if not 0 <= run.first < run.stop <= count:
            raise ConfigError(f"{where}: run {run.first}:{run.stop} is not within 0:{count}")


def _check_source(model: ModelTable, where: str) -> None:
    if model.measured != (model.source == "measured"):
        raise ConfigError(
            f"{where}: measured = {str(model.measured).lower()}, source = {model.source!r}: make them agree"
        )
    if not model.measured and not ("://" in model.source and model.derived):
        raise ConfigError(
            f"{where}: not measured: source must have the figure's address, derived say what was made of it"
        )


def _check_entry(entry: Union[Run, Chain], measured: bool, where: str) -> None:
    name = f"run {entry.first}:{entry.stop}" if isinstance(entry, Run) else "chain"
    where = f"{where}: {name}, batch {entry.batch}"
    if entry.batch < 1 or not 0 < entry.seconds < float("inf"):
        raise ConfigError(f"{where}: batch must be 1 or more, seconds positive and finite")
    if not measured:
        if entry.samples or entry.low_s is not None or entry.high_s is not None:
            raise ConfigError(f"{where}: samples or an interval of what was not measured: remove them")
    elif entry.low_s is None or entry.high_s is None or entry.samples < 1:
        raise ConfigError(f"{where}: measured, but low_s, high_s or samples is missing: measure it again")
    elif not 0 < entry.low_s <= entry.seconds <= entry.high_s < float("inf"):
        raise ConfigError(f"{where}: seconds must lie in low_s to high_s: measure it again")


def unit_seconds(model: ModelTable, batch: int = 1) -> List[float]:
    """Seconds of each unit; the table has been checked, so all are there. Raises ConfigError for another batch."""
    runs = model.by_segment(batch)
    if not runs:
        raise ConfigError(f"model {model.id}: nothing was measured at batch {batch}: calibrate it with --batch {batch}")
    return [runs[unit, unit + 1].seconds for unit in range(len(model.units))]


def batch_seconds(model: ModelTable) -> Dict[str, List[float]]:
    """Seconds of each unit for each batch above 1 that was measured, as ``batch_seconds`` of a [[model]] has them."""
    batches = sorted({run.batch for run in model.runs} - {1})
    return {str(batch): unit_seconds(model, batch) for batch in batches}


def merged_seconds(model: ModelTable, batch: int = 1) -> List[Tuple[int, int, float]]:
    """(first, stop, seconds) of each segment of more than one unit that was measured."""
    runs = model.by_segment(batch)
    return [(first, stop, run.seconds) for (first, stop), run in sorted(runs.items()) if stop - first > 1]


def widest(model: ModelTable) -> float:
    """The widest interval relative to its median: how good the worst entry is. 0 where nothing was measured."""
    entries: Sequence[Union[Run, Chain]] = [*model.runs, *model.chains]
    return max(
        ((e.high_s - e.low_s) / e.seconds for e in entries if e.low_s is not None and e.high_s is not None), default=0.0
    )
