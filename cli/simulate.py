"""``pamdi simulate``: a scenario in virtual time, or a search for faults by seed."""

import argparse
from pathlib import Path
from typing import Any, Optional, Tuple

from pamdi.cli.policy_names import policies


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "simulate", help="run a scenario in virtual time, with the daemon's own decisions",
        description="Run the fleet of scenario.toml in virtual time, each policy with the same arrivals. Or, with "
        "--search, look for broken promises in random fleets, loads and faults.",
        epilog="example: pamdi simulate examples/demo.scenario.toml --policy pa-mdi,ms-mdi",
    )  # fmt: skip
    parser.add_argument("scenario", metavar="SCENARIO", nargs="?", type=Path, help="scenario.toml")
    parser.add_argument("--policy", metavar="P[,P]", type=policies, help="instead of the scenario's")
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the scenario's")
    parser.add_argument("--check", action="store_true", help="check every promise at every event (slower)")
    parser.add_argument("--search", type=_count, metavar="N", help="instead: N random scenarios, every promise checked")
    parser.add_argument("--first", type=int, default=1, metavar="K", help="the first seed of a search (1)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.set_defaults(run=_run, parser=parser)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seeds")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    if (arguments.scenario is None) == (arguments.search is None):
        arguments.parser.error("name a scenario file, or --search N")
    if arguments.search is not None:
        return _search(range(arguments.first, arguments.first + arguments.search), arguments.json)
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


def _search(seeds: range, as_json: bool) -> int:
    import json
    import sys

    from pamdi.simulator.random_scenario import random_scenario
    from pamdi.simulator.search import search, shrink
    from pamdi.simulator.toml_text import toml_of

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    failures = search(iter(seeds), say)
    smallest = ""
    if failures:
        smallest = toml_of(shrink(random_scenario(failures[0].seed), failures[0], say))
    if as_json:
        found = [failure._asdict() for failure in failures]
        print(json.dumps({"seeds": len(seeds), "first": seeds.start, "failures": found, "shrunk": smallest}, indent=1))
    elif failures:
        for failure in failures:
            print(f"seed {failure.seed}: {failure.promise}: {failure.case}")
        print(f"\n# the smallest scenario that breaks the promise of seed {failures[0].seed}; run it with --check")
        print(smallest, end="")
    else:
        print(f"{len(seeds)} seeds from {seeds.start} on: no promise was broken")
    return 1 if failures else 0
