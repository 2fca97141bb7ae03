"""The demo, simulated and for real: the mean latency of each source must agree within 15 %.

    python -m benchmarks.agreement [--works 300] [--policy pa-mdi,ms-mdi] [--json]

The simulated side is examples/demo.scenario.toml, the real one ``pamdi demo --no-kill``: the same fleet, the same
arrivals (both seed each source's stream alike), the same core. What the simulator leaves out (sockets, timers, threads,
encoding, a broker, a machine that is busy) is measured *before* the run that is compared, and the prediction is made
before it too, so nothing of that run can flow into it:

1. ``benchmarks.hop``: what handing a tensor over costs two real processes beyond its bytes. That is four messages
   (RTC, CTC, tensor, taken), so a quarter of it is added to the delay of every link.
2. A warm-up: the urgent source alone on a fleet of its own, with other arrivals. It is slower for real than simulated
   by some milliseconds, and an eighth of that is the overhead of each of its eight visits.

That matters: at 0.9 load one more millisecond of 25 makes queues half as long again. So somebody else's program on the
machine decides the outcome: beside the warm-up it makes the prediction too long, beside the run the queues. What others
took of the processors (all that was busy, less our own processes) is therefore measured and printed; a warm-up beside
which they took more than OTHERS_MAX is done again, before anything is predicted, and of three the least disturbed
counts; and a run beside which they did says that what is apart may be their doing. The one constant is when dock
begins; how far half a second more or less would move the prediction is printed.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
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
ADMISSION_S = 0.5  # about what the real controller needs to admit dock, which submits nothing before; see ``moved_by``
MESSAGES_PER_HOP = 4
WARM_UP_WORKS, WARM_UP_SEED, WARM_UPS_MAX = 100, 7, 3
OTHERS_MAX = 0.05  # of all processors
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


class Overheads(NamedTuple):
    """Seconds that the simulator leaves out: per hand-over, and per visit. ``others``: beside the warm-up."""

    hop_s: float
    visit_s: float
    others: float = 0.0


class Processors(NamedTuple):
    """Shares of all of them: that was in use, and by others than this program and its children."""

    busy: float
    others: float


def scenario_for(works: int, overheads: Overheads, admission_s: float = ADMISSION_S) -> Scenario:
    """The example with ``works`` per source; dock joins after a quarter of the time that they take."""
    scenario = read_scenario(SCENARIO)
    devices = [replace(device, overhead_s=overheads.visit_s) for device in scenario.device]
    mesh = [replace(entry, delay_s=entry.delay_s + overheads.hop_s / MESSAGES_PER_HOP) for entry in scenario.mesh]
    gate = next(source for source in scenario.source if source.id == "gate")
    arrivals = [
        replace(entry, count=max(1, int(works * DOCK_SHARE)), start_s=works / gate.rate_hz / 4 + admission_s)
        if entry.source == "dock"
        else replace(entry, count=works)
        for entry in scenario.arrivals
    ]
    return replace(scenario, device=devices, mesh=mesh, arrivals=arrivals)


def alone_s(works: int, policy: str, seed: int, overheads: Overheads) -> float:
    """The urgent source's mean, simulated, when nobody else submits."""
    scenario = scenario_for(works, overheads)
    gate = [entry for entry in scenario.arrivals if entry.source == "gate"]
    return simulate(replace(scenario, arrivals=gate), [policy], seed)[0].sources["gate"].mean_s or 0.0


def simulated(
    works: int, policies: Tuple[str, ...], overheads: Overheads, admission_s: float = ADMISSION_S
) -> Dict[str, Run]:
    return {run.policy: run for run in simulate(scenario_for(works, overheads, admission_s), policies)}


def moved_by(runs: Dict[str, Run], works: int, policies: Tuple[str, ...], overheads: Overheads) -> float:
    """The largest share by which a predicted mean would be another, did dock begin half a second earlier or later."""
    shares = [0.0]
    for admission_s in (0.0, 2 * ADMISSION_S):
        others = simulated(works, policies, overheads, admission_s)
        for policy, run in runs.items():
            for source, figures in run.sources.items():
                other_s = others[policy].sources[source].mean_s
                if figures.mean_s and other_s:
                    shares.append(abs(other_s / figures.mean_s - 1))
    return max(shares)


def hop_s() -> float:
    """What ``benchmarks.hop`` says of the largest tensor."""
    nbytes = max(read_scenario(SCENARIO).model[0].bytes)
    words = [sys.executable, "-m", "benchmarks.hop", "--bytes", str(nbytes), "--json"]
    said = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return max(0.0, float(json.loads(said)["rows"]["the hop less bare TCP"]["p50_ms"]) / 1000)


def measure_overheads(policy: str) -> Overheads:
    """Before the run that is compared: a hop between two processes, then the urgent source alone."""
    beyond_s = hop_s()
    best = warm_up(policy, beyond_s)
    for _ in range(WARM_UPS_MAX - 1):
        if best.others > OTHERS_MAX:
            best = min(best, warm_up(policy, beyond_s), key=lambda overheads: overheads.others)
    return best


def warm_up(policy: str, beyond_s: float) -> Overheads:
    document, processors = real(WARM_UP_WORKS, (policy,), WARM_UP_SEED)
    measured_s = document["alone"]["sources"]["gate"]["mean_s"]
    units = len(read_scenario(SCENARIO).model[0].units)
    longer_s = measured_s - alone_s(WARM_UP_WORKS, policy, WARM_UP_SEED, Overheads(beyond_s, 0.0))
    return Overheads(beyond_s, max(0.0, longer_s / units), processors.others)


def real(works: int, policies: Tuple[str, ...], seed: int = 1) -> Tuple[Dict[str, Any], Processors]:
    """The demo's document, and how much of the machine's processors was in use while it ran."""
    out, before, ours_before_s = io.StringIO(), _processor_ticks(), _our_seconds()
    words = ["demo", "--works", str(works), "--policy", ",".join(policies), "--seed", str(seed), "--no-kill", "--json"]
    with contextlib.redirect_stdout(out):
        status = pamdi(words)
    busy, total = (after - earlier for after, earlier in zip(_processor_ticks(), before))
    if status or not out.getvalue():
        raise SystemExit(1)  # it has said why
    document: Dict[str, Any] = json.loads(out.getvalue())["policies"]
    ours = (_our_seconds() - ours_before_s) * os.sysconf("SC_CLK_TCK")
    return document, Processors(busy / max(total, 1), max(0.0, busy - ours) / max(total, 1))


def _our_seconds() -> float:
    """Of processors, by this process and by its children that have ended: the whole fleet, once it is down."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


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
    overheads = measure_overheads(policies[0])
    predicted = simulated(arguments.works, policies, overheads)
    moved = moved_by(predicted, arguments.works, policies, overheads)
    document, processors = real(arguments.works, policies)
    rows = rows_of(predicted, document)
    if arguments.json:
        apart = [{**row._asdict(), "ratio": row.ratio, "holds": row.holds()} for row in rows]
        print(json.dumps({"rows": apart, **overheads._asdict(), "processors": processors._asdict()}, indent=1))
    else:
        for row in rows:
            print(
                f"{'holds ' if row.holds() else 'BROKEN'} {row.policy} {row.source}: real / simulated mean "
                f"{1000 * row.real_s:.0f} / {1000 * row.simulated_s:.0f} ms = {row.ratio:.3f}, within {APART_MAX:.0%}"
            )
        print(
            f"       measured before: a hop takes {1000 * overheads.hop_s:.2f} ms beyond its bytes, a visit "
            f"{1000 * overheads.visit_s:.2f} ms more than its padded 25 ms; did dock begin 0.5 s earlier or later, "
            f"no prediction would move by more than {moved:.1%}"
        )
        print(
            f"       {os.cpu_count()} processors, {processors.busy:.0%} busy while the daemons ran, "
            f"{processors.others:.0%} by others; {overheads.others:.0%} by others while it was measured before"
        )
        if max(processors.others, overheads.others) > OTHERS_MAX:
            print(f"       more than {OTHERS_MAX:.0%} by others: what is apart may be their doing: run it again")
    return 0 if all(row.holds() for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
