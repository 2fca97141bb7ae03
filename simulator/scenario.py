"""scenario.toml: a fleet.toml, and what happens to that fleet. Unknown keys are errors; each error is one line.

Seconds, bytes, hertz. Times of arrivals and faults count from the moment when the fleet is up.
"""

from pathlib import Path
from typing import Dict, List, Optional

import msgspec

from pamdi.client.toml_file import read_toml
from pamdi.controller.fleet import Fleet, check_fleet, with_tables
from pamdi.core.errors import ConfigError
from pamdi.core.limits import Limits
from pamdi.core.policy import policy_named

ARRIVALS = ("poisson", "periodic", "backlog")
FAULTS = ("crash", "restart", "slow", "partition", "link_rate", "reallocate", "drain")
RESIDENTS = ("all", "plan")
STATIONS = ("priority", "turns")


class RunEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``duration_s``: stop then, whatever is open (default: when every work has ended). ``jitter``: each segment takes
    its seconds times 1 +- this, evenly. ``submit_s``, ``result_s``: a message over the broker. ``journal_s``: until a
    record is kept. ``load_s``: of an engine. ``reconnect_s``: until a link is up again; ``silent_s``: until a cut one
    is noticed. ``stations``: of a shared medium, ``priority`` (the most urgent frame of all goes first) or ``turns``.
    ``limits``: as in daemon.toml."""

    seed: int = 1
    policies: List[str] = msgspec.field(default_factory=lambda: ["pa-mdi"])
    residents: str = "all"
    duration_s: Optional[float] = None
    jitter: float = 0.0
    submit_s: float = 0.001
    result_s: float = 0.001
    journal_s: float = 0.0005
    load_s: float = 0.0
    reconnect_s: float = 0.05
    silent_s: float = 2.0
    stations: str = "priority"
    limits: Limits = Limits()


class ArrivalsEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``rate_hz``: default the source's. ``count``: default as many as come within ``duration_s``. ``window``: of kind
    backlog, works in flight at once. ``start_s``: before it, nothing."""

    source: str
    kind: str = "poisson"
    rate_hz: Optional[float] = None
    count: Optional[int] = None
    window: int = 1
    start_s: float = 0.0


class FaultEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"with_": "with"}, omit_defaults=True):
    """``for_s``: after so long it is undone (a crash by a restart); default: never. ``with``: the other devices of a
    partition, or of the links of ``link_rate`` (default: all). ``units``: of ``reallocate``, what the device holds of
    every model from then on."""

    at_s: float
    device: str
    kind: str
    factor: float = 1.0
    with_: List[str] = []
    for_s: Optional[float] = None
    units: List[int] = []


class Scenario(Fleet, frozen=True, forbid_unknown_fields=True):
    run: RunEntry = RunEntry()
    arrivals: List[ArrivalsEntry] = []
    fault: List[FaultEntry] = []


def read_scenario(path: Path) -> Scenario:
    """Raises ConfigError: what, where, how to mend."""
    scenario = with_tables(read_toml(path, Scenario), path)
    check_fleet(scenario, str(path))
    check_scenario(scenario, str(path))
    return scenario


def check_scenario(scenario: Scenario, where: str) -> None:
    """Raises ConfigError for the first thing that cannot be. The fleet has been checked already."""
    _check_run(scenario.run, f"{where}: run")
    if not scenario.arrivals:
        raise ConfigError(f"{where}: no works ever come: add an [[arrivals]] with a source and a count")
    for entry in scenario.arrivals:
        _check_arrivals(entry, scenario, f"{where}: arrivals of {entry.source}")
    names = [entry.source for entry in scenario.arrivals]
    for name in {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"{where}: source {name} has several [[arrivals]]: keep one")
    devices = {device.id for device in scenario.device}
    for fault in scenario.fault:
        _check_fault(fault, devices, f"{where}: {fault.kind} of {fault.device} at {fault.at_s:g} s")


def _check_run(run: RunEntry, where: str) -> None:
    if not run.policies:
        raise ConfigError(f'{where}: policies is empty: name at least one, such as "pa-mdi"')
    for name in run.policies:
        try:
            policy_named(name)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    if run.residents not in RESIDENTS:
        raise ConfigError(f"{where}: residents is {run.residents!r}: one of {', '.join(RESIDENTS)}")
    if run.stations not in STATIONS:
        raise ConfigError(f"{where}: stations is {run.stations!r}: one of {', '.join(STATIONS)}")
    times: Dict[str, float] = {
        name: getattr(run, name) for name in ("submit_s", "result_s", "journal_s", "load_s", "reconnect_s", "silent_s")
    }
    for name, value in times.items():
        if not 0 <= value < float("inf"):
            raise ConfigError(f"{where}: {name} is {value}: it must be 0 or more, and finite")
    if run.duration_s is not None and not 0 < run.duration_s < float("inf"):
        raise ConfigError(f"{where}: duration_s is {run.duration_s}: it must be positive and finite")
    if not 0 <= run.jitter < 1:
        raise ConfigError(f"{where}: jitter is {run.jitter}: it must be in [0, 1)")


def _check_arrivals(entry: ArrivalsEntry, scenario: Scenario, where: str) -> None:
    known = sorted(source.id for source in scenario.source)
    if entry.source not in known:
        raise ConfigError(f"{where}: there is no such source: declared are {', '.join(known) or 'none'}")
    if entry.kind not in ARRIVALS:
        raise ConfigError(f"{where}: kind is {entry.kind!r}: one of {', '.join(ARRIVALS)}")
    if entry.rate_hz is not None and not 0 < entry.rate_hz < float("inf"):
        raise ConfigError(f"{where}: rate_hz is {entry.rate_hz}: it must be positive and finite")
    if entry.count is None and scenario.run.duration_s is None:
        raise ConfigError(f"{where}: without an end: set count here, or duration_s in [run]")
    if entry.count is not None and entry.count < 0:
        raise ConfigError(f"{where}: count is {entry.count}: it must be 0 or more")
    if entry.window < 1:
        raise ConfigError(f"{where}: window is {entry.window}: at least one work must be in flight")
    if entry.window != 1 and entry.kind != "backlog":
        raise ConfigError(f'{where}: window is for kind "backlog", this is {entry.kind}: remove it, or change kind')
    if not 0 <= entry.start_s < float("inf"):
        raise ConfigError(f"{where}: start_s is {entry.start_s}: it must be 0 or more, and finite")


def _check_fault(fault: FaultEntry, devices: "set[str]", where: str) -> None:
    if fault.kind not in FAULTS:
        raise ConfigError(f"{where}: kind is {fault.kind!r}: one of {', '.join(FAULTS)}")
    for id in (fault.device, *fault.with_):
        if id not in devices:
            raise ConfigError(f"{where}: there is no device {id!r}: add a [[device]] with that id")
    if not 0 <= fault.at_s < float("inf") or (fault.for_s is not None and not 0 < fault.for_s < float("inf")):
        raise ConfigError(f"{where}: at_s must be 0 or more, for_s positive, both finite")
    if not 0 < fault.factor < float("inf"):
        raise ConfigError(f"{where}: factor is {fault.factor}: it must be positive and finite")
    if fault.kind == "partition" and (not fault.with_ or fault.device in fault.with_):
        raise ConfigError(f'{where}: with must name the other side, such as with = ["b"]')
