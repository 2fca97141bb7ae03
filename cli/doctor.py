"""``pamdi doctor``: what this device has, and what is wrong, each with its cure."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, List, Optional, Tuple

import msgspec

from pamdi.cli.broker_options import OPTIONS, add_broker_options, broker_from
from pamdi.cli.doctor_broker import about_broker
from pamdi.cli.doctor_findings import (
    ODD,
    OK,
    WRONG,
    Finding,
    about_backend,
    about_clock,
    about_folders,
    about_host,
    about_store,
)
from pamdi.core.errors import ConfigError
from pamdi.daemon.config import DaemonConfig, read_config
from pamdi.daemon.host import describe_host

CONFIG = Path("/etc/pamdi/daemon.toml")


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor", help="what this device has and what is wrong, each with its cure",
        epilog="example: pamdi doctor --config /etc/pamdi/daemon.toml",
    )  # fmt: skip
    parser.add_argument("--config", type=Path, help=f"the daemon's configuration (default {CONFIG}, where it is)")
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
    findings = [*about_host(describe_host()), about_clock(), found, about_backend(config)]
    store = arguments.store or (Path(config.store) if config is not None else None)
    if store is not None:
        findings.extend(about_store(store, arguments.every_byte))
    if config is not None:
        findings.extend(about_folders(config))
    return findings + _about_broker(arguments, config)


def about_configuration(named: Optional[Path], usual: Path = CONFIG) -> Tuple[Finding, Optional[DaemonConfig]]:
    """What is read, and what to say of it. The usual file may be absent; one that is named may not."""
    path = named or usual
    try:
        path.stat()
        config = read_config(path)
    except FileNotFoundError as error:
        if named is None:
            return Finding("configuration", f"none: no --config, and no {usual}"), None
        return Finding("configuration", f"{path}: {error.strerror}", WRONG, "mend the path"), None
    except PermissionError:
        cure = "run this as root or as the service's user: sudo pamdi doctor"
        return Finding("configuration", f"{path} cannot be read by user {os.geteuid()}", ODD, cure), None
    except ConfigError as error:
        what, _, cure = str(error).rpartition(": ")
        return Finding("configuration", what, WRONG, cure), None
    return Finding("configuration", f"{path}: device {config.id}, {config.type}"), config


def _about_broker(arguments: argparse.Namespace, config: Optional[DaemonConfig]) -> List[Finding]:
    """Options say where it is, else the configuration, else it is looked for on this machine and need not be there."""
    named = any(getattr(arguments, f"broker_{field}") for field in OPTIONS)
    try:
        broker = config.broker if config is not None and not named else broker_from(arguments)
    except ConfigError as error:
        return [Finding("broker", str(error), WRONG, "mend the options")]
    return about_broker(broker, config.id if config is not None else None, needed=named or config is not None)


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
