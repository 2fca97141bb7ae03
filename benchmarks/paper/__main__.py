"""``make paper``: the paper's settings at every load and policy; a table, plots, one HTML page, and what must hold.

python -m benchmarks.paper [--out build/paper] [--seeds 3] [--processes 2]
"""

import argparse
import sys
import time
from pathlib import Path
from typing import List

from benchmarks.paper.alone import alone_lines
from benchmarks.paper.compare import LOADS, POLICIES, Table, must_hold
from benchmarks.paper.page import write_page
from benchmarks.paper.settings import GPU, Setting, colosseum, cpu_speeds, xavier_mesh, xavier_nano_multihop
from benchmarks.paper.shapes import gpt2, parts, resnet50, resnet56
from benchmarks.paper.sweep import Point, capacity_hz, measure_all

PARTS = 4  # per model, as in the published demo


def settings() -> List[Setting]:
    fifty, small, large, text = (parts(s, PARTS) for s in (resnet50(), resnet56(), resnet56(224), gpt2()))
    cpu = cpu_speeds()
    slow, fast = cpu_speeds(0.05), cpu_speeds(0.3)
    demo = xavier_mesh([small] * 2, cpu, published=False)
    return [
        xavier_mesh([fifty] * 5, cpu)._replace(name="xavier-mesh"),
        xavier_nano_multihop([fifty] * 4, cpu),
        colosseum([text] * 5, cpu)._replace(name="colosseum"),
        demo._replace(name="demo A-E", title="5 Xavier, sources on A and D, ResNet-56"),
        xavier_mesh([large] * 5, cpu, published=False)._replace(name="mesh, ResNet-56 at 224"),
        colosseum([fifty] * 5, cpu, published=False)._replace(name="colosseum, ResNet-50"),
        xavier_mesh([fifty] * 5, slow, published=False)._replace(name="mesh, half the speed"),
        xavier_mesh([fifty] * 5, fast, published=False)._replace(name="mesh, 3 x the speed"),
        xavier_mesh([fifty] * 5, GPU, published=False)._replace(name="mesh, TensorRT's speed"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/paper"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    began, chosen = time.perf_counter(), settings()
    rows = measure_all([Point(s.name, s.fleet, p, None, 1) for s in chosen for p in POLICIES], arguments.processes)
    capacity = {s.name: capacity_hz(r for r in rows if (r.setting, r.policy) == (s.name, "ms-mdi")) for s in chosen}
    points: List[Point] = []
    for s in chosen:
        for load in LOADS:
            hz = load * capacity[s.name]
            for seed in range(1, arguments.seeds + 1):
                points += [Point(s.name, s.fleet, p, load, seed, hz) for p in POLICIES]
                points.append(Point(s.name, s.fleet, "as-if-alone", load, seed, hz, only=True))
    rows += measure_all(points, arguments.processes)
    table = Table(rows)
    lines: List[str] = []
    for s in chosen:
        lines += ["", f"{s.name}: {s.title}; load 1.0 is {capacity[s.name]:.2f} works/s", *table.lines(s.name)]
    held, promises = must_hold(table, chosen)
    alone_held, alone = alone_lines(arguments.processes)
    lines += ["", *promises, "", *alone]
    print("\n".join(lines))
    page = write_page(arguments.out, table, chosen, lines)
    print(f"\n{page} and its pictures; {time.perf_counter() - began:.0f} s")
    return 0 if held and alone_held else 1


if __name__ == "__main__":
    sys.exit(main())
