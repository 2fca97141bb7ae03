"""``pamdi daemon``: the device service."""

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "daemon", help="the device service", epilog="example: pamdi daemon --config /etc/pamdi/daemon.toml"
    )
    parser.add_argument("--config", type=Path, required=True, help="daemon.toml; see examples/daemon.toml")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from pamdi.daemon.main import run

    return run(arguments.config)
