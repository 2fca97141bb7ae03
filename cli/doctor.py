"""``pamdi doctor``: what this device has, and what is wrong, each with its cure.

Given a controller.toml it looks at what a controller needs: its models, its folder, its broker; no back end, no store.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Tuple, Union

import msgspec

from pamdi.cli.broker_options import OPTIONS, add_broker_options, broker_from
from pamdi.cli.doctor_broker import CONTROLLER, about_broker
from pamdi.cli.doctor_findings import (
    ODD,
    OK,
    WRONG,
    Finding,
    about_backend,
    about_clock,
    about_folder,
    about_folders,
    about_host,
    about_power_mode,
    about_store,
)
from pamdi.client.toml_file import top_level_keys
from pamdi.core.errors import ConfigError, PamdiError
from pamdi.daemon.config import DaemonConfig, read_config
from pamdi.daemon.host import describe_host

if TYPE_CHECKING:  # it is not loaded on a device
    from pamdi.controller.config import ControllerConfig

CONFIG = Path("/etc/pamdi/daemon.toml")
# Keys that make a file the controller's, and keys that every daemon.toml has.
CONTROLLERS = frozenset(
    ("model", "source", "link", "mesh", "policy", "residents", "solver", "settle_s", "gone_after_s", "load_s_max",
     "retry_after_s", "default_rate_bytes_per_s", "default_delay_s", "slow_factor", "normal_factor", "slow_delay_s",
     "slow_forget_s", "link_slow_factor", "link_slow_delay_s", "move_gain_min", "move_horizon_s", "load_bytes_per_s")
)  # fmt: skip
DAEMONS = frozenset(("id", "type", "store"))
AnyConfig = Union[DaemonConfig, "ControllerConfig"]


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor", help="what this device has and what is wrong, each with its cure",
        epilog="example: pamdi doctor --config /etc/pamdi/daemon.toml",
    )  # fmt: skip
    parser.add_argument(
        "--config", type=Path, help=f"the daemon's or the controller's file (default {CONFIG}, where it is)"
    )
    parser.add_argument("--store", type=Path, help="folder of exported models (default: the configuration's)")
    parser.add_argument("--every-byte", action="store_true", help="compare the store's files with their sums")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    add_broker_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    findings = examine(arguments)
    wrong = [finding for finding in findings if finding.state == WRONG]
    if arguments.json:
        document = {"ok": not wrong, "host": describe_host(), "findings": findings}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")
    else:
        print("\n".join(lines_of(findings)))
    return 1 if wrong else 0


def examine(arguments: argparse.Namespace) -> List[Finding]:
    found, config = about_configuration(arguments.config)
    host = describe_host()
    findings = [*about_host(host), about_clock(), found]
    daemon = config if isinstance(config, DaemonConfig) else None
    if daemon is not None:
        findings.extend(about_power_mode(daemon.id, daemon.type, host.power_mode, arguments.config or CONFIG))
    if config is None or daemon is not None:
        findings.append(about_backend(daemon))
    else:
        findings.append(about_folder("state_dir", config.state_dir, 0))
    store = arguments.store or (Path(daemon.store) if daemon is not None else None)
    if store is not None:
        findings.extend(about_store(store, arguments.every_byte))
    if daemon is not None:
        findings.extend(about_folders(daemon))
    findings += _about_broker(arguments, config, found)
    return findings if config is None or daemon is not None else findings + _about_fleet(arguments, findings)


def about_configuration(named: Optional[Path], usual: Path = CONFIG) -> Tuple[Finding, Optional[AnyConfig]]:
    """What is read, and what to say of it. The usual file may be absent; one that is named may not."""
    path = named or usual
    try:
        path.stat()
        if _is_controllers(path):
            return _about_controllers(path)
        config = read_config(path)
    except FileNotFoundError as error:
        if named is None:
            return Finding("configuration", f"none: no --config, and no {usual}"), None
        return Finding("configuration", f"{path}: {error.strerror}", WRONG, "mend the path"), None
    except PermissionError:
        cure = "run this as root or as the service's user: sudo pamdi doctor"
        return Finding("configuration", f"{path} cannot be read by user {os.geteuid()}", ODD, cure), None
    except PamdiError as error:
        what, _, cure = str(error).rpartition(": ")
        return Finding("configuration", what, WRONG, cure), None
    return Finding("configuration", f"{path}: device {config.id}, {config.type}"), config


def _is_controllers(path: Path) -> bool:
    keys = top_level_keys(path)
    return not keys & DAEMONS and (bool(keys & CONTROLLERS) or path.name.startswith("controller"))


def _about_controllers(path: Path) -> Tuple[Finding, "ControllerConfig"]:
    """Raises PamdiError."""
    from pamdi.controller.config import read_config as read_controllers

    config, wanted = read_controllers(path)
    sources = ", ".join(source.id for source in config.source) or "none"
    value = f"{path}: controller of {len(wanted.models)} models, sources {sources}"
    if config.source:
        return Finding("configuration", value), config
    return Finding("configuration", value, ODD, "no work is admitted before there is a [[source]]"), config


def _about_broker(arguments: argparse.Namespace, config: Optional[AnyConfig], found: Finding) -> List[Finding]:
    """Options say where it is, else the configuration, else it is looked for on this machine and need not be there."""
    named = any(getattr(arguments, f"broker_{field}") for field in OPTIONS)
    if found.state == WRONG and not named:
        return [Finding("broker", "not looked for: the configuration names it", ODD, "mend the configuration first")]
    try:
        broker = config.broker if config is not None and not named else broker_from(arguments)
    except ConfigError as error:
        return [Finding("broker", str(error), WRONG, "mend the options")]
    who = None if config is None else config.id if isinstance(config, DaemonConfig) else CONTROLLER
    return about_broker(broker, who, needed=named or config is not None)


def _about_fleet(arguments: argparse.Namespace, findings: List[Finding]) -> List[Finding]:
    """Of a controller's file whose broker answers."""
    from pamdi.cli.doctor_fleet import about_fleet
    from pamdi.controller.config import read_config as read_controllers

    if any(finding.name == "broker" and finding.state == WRONG for finding in findings):
        return []
    config, wanted = read_controllers(arguments.config)
    named = any(getattr(arguments, f"broker_{field}") for field in OPTIONS)
    return about_fleet(broker_from(arguments) if named else config.broker, wanted)


def lines_of(findings: List[Finding]) -> List[str]:
    """As a person reads it: facts, then a last line that says whether this device can work."""
    marks = {OK: "  ", ODD: "? ", WRONG: "! "}
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{marks[finding.state]}{finding.name:{width}}  {finding.value}")
        if finding.cure:
            lines.append(f"  {'':{width}}  -> {finding.cure}")
    wrong = sum(finding.state == WRONG for finding in findings)
    odd = sum(finding.state == ODD for finding in findings)
    verdict = f"{wrong} must be mended before this device can work" if wrong else "nothing prevents work"
    return [*lines, "", verdict + (f", {odd} to look at" if odd else "")]
