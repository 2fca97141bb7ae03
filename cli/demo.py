"""``pamdi demo``: a whole fleet on this machine."""

import argparse
from pathlib import Path
from typing import Any, Callable

from pamdi.cli.policy_names import policies


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "demo", help="a whole fleet on this machine, and a table that makes the point",
        description="Start a broker, a controller and devices, submit real works under each policy, kill a device half "
        "way, and end with a table. With --serve: every source, no works, and what dies is started again.",
        epilog="example: pamdi demo --works 500 --trace demo.trace.json",
    )  # fmt: skip
    parser.add_argument("--works", type=_number(1, 100_000), default=200, metavar="N", help="per source, policy (200)")
    parser.add_argument("--devices", type=_number(2, 16), default=5, metavar="N", help="device processes, 2 to 16 (5)")
    parser.add_argument(
        "--policy", type=policies, default=("pa-mdi", "ms-mdi"), metavar="P[,P]", help="policies (pa-mdi,ms-mdi)"
    )  # fmt: skip
    parser.add_argument("--broker", metavar="URL", help="use this broker instead of starting one")
    parser.add_argument("--serve", action="store_true", help="no load: stay up for others to submit, until Ctrl-C")
    parser.add_argument("--no-kill", action="store_true", help="do not kill a device half way")
    parser.add_argument("--no-alone", action="store_true", help="do not measure the urgent source alone first")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the arrivals (1)")
    parser.add_argument("--trace", type=_new_file, metavar="FILE", help="write a Chrome / Perfetto trace")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.set_defaults(run=_run)


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
        return int(text)

    return number


def _new_file(text: str) -> Path:
    """Refused now, not after minutes of measuring."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: name a file in a folder that exists")
    return path


def _run(arguments: argparse.Namespace) -> int:
    import asyncio

    from pamdi.demo.fleet import Options
    from pamdi.demo.run import Story, serve, tell, until_stopped

    options = Options(devices=arguments.devices, broker=arguments.broker, policy=arguments.policy[0])
    if arguments.serve:
        return asyncio.run(until_stopped(serve(options), status=0))
    story = Story(
        arguments.works, arguments.policy, not arguments.no_kill, not arguments.no_alone, arguments.seed,
        arguments.trace, arguments.json,
    )  # fmt: skip
    return asyncio.run(until_stopped(tell(options, story), status=1))
