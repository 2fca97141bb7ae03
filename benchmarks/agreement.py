"""The demo, simulated and for real: the mean latency of each source must agree within 15 %.

    python -m benchmarks.agreement [--works 200] [--policy pa-mdi,ms-mdi] [--json]

The simulated side is examples/demo.scenario.toml, the real one ``pamdi demo --no-kill``: the same fleet, the same
arrivals (both seed each source's stream alike), the same core. What differs is everything that the simulator leaves
out: sockets, timers, encoding, threads, a broker, and a machine that has other things to do. How busy the machine's
processors were while the daemons ran is printed with the ratios, since a demo that must wait for a processor is slow
for a reason that the simulator cannot know. Only the urgent source stays apart as *alone*.
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
        replace(entry, count=max(1, int(works * DOCK_SHARE)), start_s=works / gate.rate_hz / 4)
        if entry.source == "dock"
        else replace(entry, count=works)
        for entry in scenario.arrivals
    ]
    return replace(scenario, arrivals=arrivals)


def simulated(works: int, policies: Tuple[str, ...]) -> Dict[str, Run]:
    scenario = scenario_for(works)
    gate = [entry for entry in scenario.arrivals if entry.source == "gate"]
    alone = simulate(replace(scenario, arrivals=gate), policies[:1])
    return {"alone": alone[0], **{run.policy: run for run in simulate(scenario, policies)}}


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
    parser.add_argument("--works", type=int, default=200)
    parser.add_argument("--policy", default="pa-mdi,ms-mdi", metavar="P[,P]")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    policies = tuple(arguments.policy.split(","))
    document, busy = real(arguments.works, policies)
    rows = rows_of(simulated(arguments.works, policies), document)
    if arguments.json:
        apart = [{**row._asdict(), "ratio": row.ratio, "holds": row.holds()} for row in rows]
        print(json.dumps({"rows": apart, "processors_busy": busy}, indent=1))
    else:
        for row in rows:
            print(
                f"{'holds ' if row.holds() else 'BROKEN'} {row.policy} {row.source}: real / simulated mean "
                f"{1000 * row.real_s:.0f} / {1000 * row.simulated_s:.0f} ms = {row.ratio:.3f}, within {APART_MAX:.0%}"
            )
        print(f"       {os.cpu_count()} processors, {busy:.0%} busy while the daemons ran")
    return 0 if all(row.holds() for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
