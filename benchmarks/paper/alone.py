"""The urgent source beside an equal one at 0.9 load against itself alone, in the simulator (the sibling of
``benchmarks.as_if_alone``, which does it with real daemons): ``python -m benchmarks.paper.alone``.

Five equal devices, 16 units of 25 ms, 100 Mb/s and 1 ms (computing is the bottleneck), two Poisson sources of equal
rate. Kleinrock's conservation law: under any order that never idles while work waits, the sum of load x mean wait over
the sources is the same. So what the urgent source does not wait the other must; its floor is taken from one queue in
the order of arrival before five servers, with no network at all.
"""

import heapq
import sys
from statistics import mean
from typing import Dict, List, Tuple

from benchmarks.paper.sweep import Point, Row, measure_all
from pamdi.controller.fleet import DeviceEntry, MeshEntry, ModelEntry, SourceEntry
from pamdi.simulator.arrivals import instants
from pamdi.simulator.scenario import Scenario

DEVICES, UNITS, UNIT_S, LOAD = 5, 16, 0.025, 0.9
WORK_S = UNITS * UNIT_S
RATE_HZ = LOAD * DEVICES / WORK_S / 2
WORKS, SEEDS = 1000, (1, 2, 3)
MEAN_MAX, P99_MAX = 1.04, 1.08
POLICIES = ("as-if-alone", "pa-mdi", "ms-mdi")


def scenario() -> Scenario:
    patient = {"queue_works_max": 100_000, "replay_after_s": 1e6}
    return Scenario(
        device=[DeviceEntry(f"d{i}", "board", 10**9) for i in range(DEVICES)],
        mesh=[MeshEntry("all", 12.5e6, 0.001)],
        model=[
            ModelEntry(
                "net", [str(u) for u in range(UNITS)], [20_000] * UNITS + [40], [1] * UNITS, {"board": [UNIT_S] * UNITS}
            )
        ],
        source=[
            SourceEntry(name, "net", head, gamma=gamma, rate_hz=RATE_HZ, **patient)  # type: ignore[arg-type]
            for name, head, gamma in (("gate", "d0", 10.0), ("yard", "d1", 1.0))
        ],
    )


def wait_in_one_queue_s(seed: int) -> float:
    """Mean wait of all works, first come first served, before DEVICES servers."""
    came = sorted(
        at for name in ("gate", "yard") for at in instants(seed, name, "poisson", RATE_HZ, WORKS, 0.0)
    )  # fmt: skip
    free, waits = [0.0] * DEVICES, []
    for at in came:
        start = max(at, heapq.heappop(free))
        waits.append(start - at)
        heapq.heappush(free, start + WORK_S)
    return mean(waits)


def alone_lines(processes: int = 2) -> Tuple[bool, List[str]]:
    points = [
        Point("alone", scenario(), policy, LOAD, seed, 2 * RATE_HZ, only, works=WORKS)
        for policy in POLICIES
        for seed in SEEDS
        for only in (True, False)
    ]
    rows: Dict[Tuple[str, int, bool], Row] = {}
    for point, row in zip(points, measure_all(points, processes)):
        rows[point.policy, point.seed, point.only] = row
    floor = mean(2 * wait_in_one_queue_s(seed) for seed in SEEDS)
    held, lines = True, [f"load {LOAD}, {DEVICES} equal devices, {UNITS} units, {WORKS} works, seeds {SEEDS}:"]
    for policy in POLICIES:
        pairs = [(rows[policy, s, False].sources["gate"], rows[policy, s, True].sources["gate"]) for s in SEEDS]
        means, p99s = [a.mean_s / b.mean_s for a, b in pairs], [a.p99_s / b.p99_s for a, b in pairs]
        urgent_s = mean(a.mean_s for a, _ in pairs) - WORK_S
        other_s = mean(rows[policy, s, False].sources["yard"].mean_s for s in SEEDS) - WORK_S
        ok = mean(means) <= MEAN_MAX and mean(p99s) <= P99_MAX
        word = "       "
        if policy == "as-if-alone":
            held, word = ok, "holds  " if ok else "BROKEN "
        lines.append(
            f"{word}{policy:12} urgent / alone: mean {mean(means):.3f} ({MEAN_MAX}), p99 {mean(p99s):.3f} ({P99_MAX}); "
            f"the other waits {1e3 * other_s:.0f} ms, by the law at least {1e3 * max(0.0, floor - urgent_s):.0f}"
        )
    return held, lines


if __name__ == "__main__":
    done, said = alone_lines()
    print("\n".join(said))
    sys.exit(0 if done else 1)
