"""The demo, simulated and for real: the mean latency of each source must agree within 15 %.

    python -m benchmarks.agreement [--works 300] [--policy pa-mdi,ms-mdi] [--json]

The simulated side is examples/demo.scenario.toml, the real one ``pamdi demo --no-kill``: the same fleet, the same
arrivals (both seed each source's stream alike), the same core. What the simulator leaves out (sockets, timers, threads,
encoding, a broker, a machine that is busy) is calibrated, like a device's seconds: the urgent source *alone* is slower
for real by some milliseconds, and an eighth of that is the overhead of each visit, for all the rest of the comparison.
That matters: at 0.9 load one more millisecond of 25 makes queues half as long again. How busy the processors were
while the daemons ran is printed too.
"""

import argparse
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

from msgspec.structs import replace

from pamdi.cli.main import main as pamdi
from pamdi.simulator.report import Run
from pamdi.simulator.run import simulate
from pamdi.simulator.scenario import Scenario, read_scenario

SCENARIO = Path(__file__).resolve().parents[1] / "examples" / "demo.scenario.toml"
APART_MAX = 0.15
ADMISSION_S = 0.5  # about what the real controller needs to admit dock, which submits nothing before
DOCK_SHARE = 0.75 * 0.1 / 0.4  # of the works of the others, as in the demo: it joins late, at a lower rate


class Row(NamedTuple):
    policy: str
    source: str
    simulated_s: float
    real_s: float

    @property
    def ratio(self) -> float:
        return self.real_s / self.simulated_s

    def holds(self) -> bool:
        return abs(self.ratio - 1) <= APART_MAX


def scenario_for(works: int) -> Scenario:
    """The example with ``works`` per source; dock joins after a quarter of the time that they take."""
    scenario = read_scenario(SCENARIO)
    gate = next(source for source in scenario.source if source.id == "gate")
    arrivals = [
        replace(entry, count=max(1, int(works * DOCK_SHARE)), start_s=works / gate.rate_hz / 4 + ADMISSION_S)
        if entry.source == "dock"
        else replace(entry, count=works)
        for entry in scenario.arrivals
    ]
    return replace(scenario, arrivals=arrivals)


def alone(works: int, policy: str) -> Run:
    scenario = scenario_for(works)
    gate = [entry for entry in scenario.arrivals if entry.source == "gate"]
    return simulate(replace(scenario, arrivals=gate), [policy])[0]


def simulated(works: int, policies: Tuple[str, ...], overhead_s: float) -> Dict[str, Run]:
    scenario = scenario_for(works)
    devices = [replace(device, overhead_s=overhead_s) for device in scenario.device]
    return {run.policy: run for run in simulate(replace(scenario, device=devices), policies)}


def overhead_of(works: int, policy: str, document: Dict[str, Any]) -> float:
    """Seconds per visit that the real urgent source takes longer, alone on the fleet."""
    longer_s = document["alone"]["sources"]["gate"]["mean_s"] - (alone(works, policy).sources["gate"].mean_s or 0.0)
    units = len(read_scenario(SCENARIO).model[0].units)
    return float(max(0.0, longer_s / units))


def real(works: int, policies: Tuple[str, ...]) -> Tuple[Dict[str, Any], float]:
    """The demo's document, and the share of the machine's processors that was in use while it ran."""
    out, before = io.StringIO(), _processor_ticks()
    with contextlib.redirect_stdout(out):
        status = pamdi(["demo", "--works", str(works), "--policy", ",".join(policies), "--no-kill", "--json"])
    busy, total = (after - earlier for after, earlier in zip(_processor_ticks(), before))
    if status or not out.getvalue():
        raise SystemExit(1)  # it has said why
    document: Dict[str, Any] = json.loads(out.getvalue())["policies"]
    return document, busy / total if total else 0.0


def _processor_ticks() -> Tuple[int, int]:
    """Of all processors since the start of the machine: busy, and in all."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def rows_of(runs: Dict[str, Run], document: Dict[str, Any]) -> List[Row]:
    rows = []
    for policy, run in runs.items():
        for source, figures in run.sources.items():
            measured = document[policy]["sources"].get(source)
            if measured is not None and figures.mean_s:
                rows.append(Row(policy, source, figures.mean_s, measured["mean_s"]))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", type=int, default=300)
    parser.add_argument("--policy", default="pa-mdi,ms-mdi", metavar="P[,P]")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    policies = tuple(arguments.policy.split(","))
    document, busy = real(arguments.works, policies)
    overhead_s = overhead_of(arguments.works, policies[0], document)
    rows = rows_of(simulated(arguments.works, policies, overhead_s), document)
    if arguments.json:
        apart = [{**row._asdict(), "ratio": row.ratio, "holds": row.holds()} for row in rows]
        print(json.dumps({"rows": apart, "overhead_s": overhead_s, "processors_busy": busy}, indent=1))
    else:
        for row in rows:
            print(
                f"{'holds ' if row.holds() else 'BROKEN'} {row.policy} {row.source}: real / simulated mean "
                f"{1000 * row.real_s:.0f} / {1000 * row.simulated_s:.0f} ms = {row.ratio:.3f}, within {APART_MAX:.0%}"
            )
        print(f"       calibrated on gate alone: a visit takes {1000 * overhead_s:.2f} ms more than its padded 25 ms")
        print(f"       {os.cpu_count()} processors, {busy:.0%} busy while the daemons ran")
    return 0 if all(row.holds() for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
