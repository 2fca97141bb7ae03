"""The urgent source under load against itself alone, and against no priorities: ratios from one run on one fleet.

    python -m benchmarks.demo_ratios [--works 500] [--json]

Bounds: urgent mean under 0.9 load at most 1.2 x alone, and clearly below ms-mdi's (0.9 x); normal throughput at least
0.95 x ms-mdi's; every answer bit for bit the uncut model's.
"""

import argparse
import contextlib
import io
import json
import sys
from typing import Any, Dict, List, Tuple

from pamdi.cli.main import main as pamdi


def measure(works: int) -> Dict[str, Any]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = pamdi(["demo", "--works", str(works), "--no-kill", "--json"])
    if not out.getvalue():
        raise SystemExit(1)  # it has said why
    document: Dict[str, Any] = json.loads(out.getvalue())
    document["status"] = status
    return document


def bounds(document: Dict[str, Any]) -> List[Tuple[str, float, str, float, bool]]:
    """(what, value, relation, bound, whether it holds)."""
    policies = {name: entry["sources"] for name, entry in document["policies"].items()}
    gate, alone, plain = (policies[name]["gate"]["mean_s"] for name in ("pa-mdi", "alone", "ms-mdi"))
    yard = policies["pa-mdi"]["yard"]["throughput_hz"] / policies["ms-mdi"]["yard"]["throughput_hz"]
    dock = policies["pa-mdi"]["dock"]["throughput_hz"] / policies["ms-mdi"]["dock"]["throughput_hz"]
    exact = document["answers_bit_equal"] / document["answers"]
    rows = [
        ("urgent mean under load / alone", gate / alone, "<=", 1.2),
        ("urgent mean, pa-mdi / ms-mdi", gate / plain, "<=", 0.9),
        ("yard throughput, pa-mdi / ms-mdi", yard, ">=", 0.95),
        ("dock throughput, pa-mdi / ms-mdi", dock, ">=", 0.95),
        ("answers equal to the uncut model's, bit for bit", exact, ">=", 1.0),
    ]
    return [
        (what, value, how, bound, value >= bound if how == ">=" else value <= bound) for what, value, how, bound in rows
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    document = measure(arguments.works)
    rows = bounds(document)
    if arguments.json:
        print(json.dumps({"bounds": rows, **document}, indent=1))
    else:
        for what, value, how, bound, holds in rows:
            print(f"{'holds ' if holds else 'BROKEN'} {what}: {value:.3f} {how} {bound}")
    return 0 if all(row[-1] for row in rows) and document["status"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
