"""``pamdi simulate``: a scenario in virtual time, or a search for faults by seed."""

import argparse
from pathlib import Path
from typing import Any, Optional, Tuple


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "simulate", help="run a scenario in virtual time, with the daemon's own decisions",
        description="Run the fleet of scenario.toml in virtual time, under each policy with the same arrivals.",
        epilog="example: pamdi simulate examples/demo.scenario.toml --policy pa-mdi,ms-mdi",
    )  # fmt: skip
    parser.add_argument("scenario", metavar="SCENARIO", nargs="?", type=Path, help="scenario.toml")
    parser.add_argument("--policy", metavar="P[,P]", type=_policies, help="instead of the scenario's")
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the scenario's")
    parser.add_argument("--check", action="store_true", help="check every promise at every event (slower)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.set_defaults(run=_run, parser=parser)


def _policies(text: str) -> Tuple[str, ...]:
    from pamdi.core.policy import POLICIES

    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in POLICIES:
            raise argparse.ArgumentTypeError(f"policy {name!r} is unknown: one or more of {', '.join(POLICIES)}")
    return names


def _run(arguments: argparse.Namespace) -> int:
    if arguments.scenario is None:
        arguments.parser.error("name a scenario file")
    return _simulate(arguments.scenario, arguments.policy, arguments.seed, arguments.check, arguments.json)


def _simulate(path: Path, policies: Optional[Tuple[str, ...]], seed: Optional[int], check: bool, as_json: bool) -> int:
    import json
    import sys
    import time

    from pamdi.simulator.report import document_of, table
    from pamdi.simulator.run import simulate
    from pamdi.simulator.scenario import read_scenario

    scenario = read_scenario(path)
    began = time.perf_counter()
    runs = simulate(scenario, policies, seed, check, lambda line: print(line, file=sys.stderr))
    seconds = time.perf_counter() - began
    document = document_of(runs, seconds)
    if as_json:
        print(json.dumps(document, indent=1))
        return 0
    print("\n".join(table(runs)))
    print(f"{document['events']} events in {seconds:.1f} s: {document['events_per_second']:.0f} a second")
    return 0
