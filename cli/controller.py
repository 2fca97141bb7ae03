"""``pamdi controller``: knows the fleet, decides who holds what."""

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "controller", help="the controller", epilog="example: pamdi controller --config /etc/pamdi/controller.toml"
    )
    parser.add_argument("--config", type=Path, required=True, help="controller.toml; see examples/controller.toml")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from pamdi.controller.main import run

    return run(arguments.config)
