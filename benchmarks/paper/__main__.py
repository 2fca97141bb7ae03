"""``make paper``: the paper's settings at every load and policy; a table, plots, one HTML page, and what must hold.

    python -m benchmarks.paper [--quick] [--out build/paper] [--processes 2]

The policy was tuned on other seeds (101 to 103 and, before, 1 to 3) than the ones used here. ``--quick``: the published
settings alone, at fewer loads, one seed, no steps: a look, not a result.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import List, Optional, Sequence

from benchmarks.paper.all_settings import FEW_LOADS, headline, variations
from benchmarks.paper.alone import alone_lines
from benchmarks.paper.batches import batch_lines
from benchmarks.paper.compare import POLICIES, Table, must_hold
from benchmarks.paper.page import write_page
from benchmarks.paper.settings import Setting
from benchmarks.paper.steps import finer_lines, step_lines
from benchmarks.paper.sweep import Point, capacity_hz, measure_all

SEEDS = (201, 202, 203)
ONE_SEED = ("ar-mdi",)  # overloaded on every radio, and ten times as long to simulate


def points_of(setting: Setting, load: Optional[float], hz: Optional[float], seeds: Sequence[int]) -> List[Point]:
    """Every policy, and the urgent source with the fleet to itself."""
    points: List[Point] = []
    for seed in seeds:
        among = POLICIES if seed == seeds[0] else [policy for policy in POLICIES if policy not in ONE_SEED]
        points += [Point(setting.name, setting.fleet, policy, load, seed, hz) for policy in among]
        points.append(Point(setting.name, setting.fleet, "as-if-alone", load, seed, hz, only=True))
    return points


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("build/paper"))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    began, processes = time.perf_counter(), arguments.processes
    seeds = SEEDS[:1] if arguments.quick else SEEDS
    chosen = [s._replace(loads=FEW_LOADS) for s in headline()] if arguments.quick else headline() + variations()
    rows = measure_all([point for s in chosen for point in points_of(s, None, None, seeds)], processes)
    capacity = {
        s.name: capacity_hz(r for r in rows if (r.setting, r.policy) == (s.name, "ms-mdi")) for s in chosen
    }  # fmt: skip
    loads = [(s, load) for s in chosen for load in s.loads]
    points = [point for s, load in loads for point in points_of(s, load, load * capacity[s.name], seeds)]
    table = Table(rows + measure_all(points, processes))
    lines = [f"seeds {', '.join(map(str, seeds))}"]
    for s in chosen:
        lines += ["", f"{s.name}: {s.title}; load 1.0 is {capacity[s.name]:.2f} works/s", *table.lines(s)]
    held, promises = must_hold(table, chosen)
    lines += ["", *promises]
    if not arguments.quick:
        alone_held, alone = alone_lines(processes)
        held = held and alone_held
        lines += ["", *step_lines(capacity, seeds, processes), "", *finer_lines(capacity, seeds, processes)]
        lines += ["", *batch_lines(seeds, processes), "", *alone]
    print("\n".join(lines))
    page = write_page(arguments.out, table, chosen, lines)
    print(f"\n{page} and its pictures; {time.perf_counter() - began:.0f} s")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
