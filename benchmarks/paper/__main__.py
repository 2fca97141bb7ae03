"""``make paper``: the paper's settings at every load and policy; a table, plots, one HTML page, and what must hold.

    python -m benchmarks.paper [--quick] [--out build/paper] [--processes 2]

The policy was tuned on other seeds (101 to 103 and, before, 1 to 3) than the ones used here. ``--quick``: the published
settings alone, at fewer loads, one seed, no steps: a look, not a result.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Dict, List, Sequence

from benchmarks.paper.all_settings import FEW_LOADS, headline, variations
from benchmarks.paper.alone import alone_lines
from benchmarks.paper.compare import POLICIES, Table, must_hold
from benchmarks.paper.page import write_page
from benchmarks.paper.settings import Setting
from benchmarks.paper.steps import finer_lines, step_lines
from benchmarks.paper.sweep import Point, Row, capacity_hz, measure_all

SEEDS = (201, 202, 203)
ONE_SEED = ("ar-mdi",)  # overloaded on every radio, and ten times as long to simulate


def saturated(settings: Sequence[Setting], processes: int) -> List[Row]:
    """All works at once: nothing in it is random, so one seed is enough."""
    points = [Point(s.name, s.fleet, policy, None, SEEDS[0]) for s in settings for policy in POLICIES]
    points += [Point(s.name, s.fleet, "as-if-alone", None, SEEDS[0], only=True) for s in settings]
    return measure_all(points, processes)


def swept(settings: Sequence[Setting], seeds: Sequence[int], capacity: Dict[str, float], processes: int) -> List[Row]:
    points: List[Point] = []
    for s in settings:
        for load in s.loads:
            hz = load * capacity[s.name]
            for seed in seeds:
                among = POLICIES if seed == seeds[0] else [p for p in POLICIES if p not in ONE_SEED]
                points += [Point(s.name, s.fleet, policy, load, seed, hz) for policy in among]
                points.append(Point(s.name, s.fleet, "as-if-alone", load, seed, hz, only=True))
    return measure_all(points, processes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("build/paper"))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    began, processes = time.perf_counter(), arguments.processes
    seeds = SEEDS[:1] if arguments.quick else SEEDS
    chosen = [s._replace(loads=FEW_LOADS) for s in headline()] if arguments.quick else headline() + variations()
    rows = saturated(chosen, processes)
    capacity = {
        s.name: capacity_hz(r for r in rows if (r.setting, r.policy) == (s.name, "ms-mdi")) for s in chosen
    }  # fmt: skip
    table = Table(rows + swept(chosen, seeds, capacity, processes))
    lines = [f"seeds {', '.join(map(str, seeds))}"]
    for s in chosen:
        lines += ["", f"{s.name}: {s.title}; load 1.0 is {capacity[s.name]:.2f} works/s", *table.lines(s)]
    held, promises = must_hold(table, chosen)
    lines += ["", *promises]
    if not arguments.quick:
        alone_held, alone = alone_lines(processes)
        held = held and alone_held
        lines += ["", *step_lines(capacity, seeds, processes), "", *finer_lines(capacity, seeds, processes), "", *alone]
    print("\n".join(lines))
    page = write_page(arguments.out, table, chosen, lines)
    print(f"\n{page} and its pictures; {time.perf_counter() - began:.0f} s")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
