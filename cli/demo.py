"""``pamdi demo``: a whole fleet on this machine."""

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "demo", help="a whole fleet on this machine, and a table that makes the point",
        epilog="example: pamdi demo --works 500 --trace demo.trace.json",
    )  # fmt: skip
    parser.add_argument("--works", type=int, default=200, metavar="N", help="works per source and policy (200)")
    parser.add_argument("--devices", type=int, default=5, metavar="N", help="device processes, 2 to 16 (5)")
    parser.add_argument("--policy", default="pa-mdi,ms-mdi", metavar="P[,P]", help="policies to run (pa-mdi,ms-mdi)")
    parser.add_argument("--broker", metavar="URL", help="use this broker instead of starting one")
    parser.add_argument("--serve", action="store_true", help="no load: stay up for others to submit, until Ctrl-C")
    parser.add_argument("--no-kill", action="store_true", help="do not kill a device half way")
    parser.add_argument("--no-alone", action="store_true", help="do not measure the urgent source alone first")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the arrivals (1)")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write a Chrome / Perfetto trace")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    import asyncio

    from pamdi.core.errors import ConfigError
    from pamdi.demo.fleet import Options
    from pamdi.demo.run import Story, serve, tell

    if arguments.works < 1 or not 2 <= arguments.devices <= 16:
        raise ConfigError("demo: --works must be at least 1 and --devices 2 to 16")
    options = Options(devices=arguments.devices, broker=arguments.broker)
    policies = tuple(arguments.policy.split(","))
    if arguments.serve:
        return asyncio.run(serve(options._replace(policy=policies[0])))
    story = Story(
        arguments.works, policies, not arguments.no_kill, not arguments.no_alone, arguments.seed, arguments.trace,
        arguments.json,
    )  # fmt: skip
    return asyncio.run(tell(options, story))
