"""The urgent source beside an equal one at 0.9 load, against itself alone: real daemons at emulated speed.

    python -m benchmarks.as_if_alone [--works 300] [--seed 1] [--json]

Five equal devices, 16 units of 25 ms, links of 100 Mb/s and 1 ms (so that computing is the bottleneck), two Poisson
sources of equal rate that together ask for 0.9 of what the devices can compute. The same arrivals, first with the
urgent source alone. Workers know each other by beacons and RTC / CTC only. The CPU time of everything that ran is
reported beside the ratio: emulated speed means something only while this machine itself is not the bottleneck.
"""

import argparse
import asyncio
import json
import resource
import sys
import time
from typing import Any, Dict, List

from pamdi.client.broker_config import BrokerConfig
from pamdi.demo.fleet import Fleet, Options
from pamdi.demo.load import Digits, Load
from pamdi.demo.report import phase_of
from pamdi.demo.witness import Witness

LOAD = 0.9
MEAN_MAX = 1.15
OPTIONS = Options(units=16, unit_s=0.025, link_rate_bytes_per_s=12_500_000.0, link_delay_s=0.001)


async def measure(works: int, seed: int) -> Dict[str, Dict[str, Any]]:
    """By phase ("alone", "together") and source: the figures of ``SourceFigures``."""
    digits = await asyncio.get_running_loop().run_in_executor(None, Digits)
    phases: Dict[str, Dict[str, Any]] = {}
    async with Fleet(OPTIONS) as fleet:
        rate_hz = LOAD / 2 * OPTIONS.devices / (OPTIONS.units * OPTIONS.unit_s)
        for name, sources in (("alone", ["gate"]), ("together", ["gate", "yard"])):
            load = Load(fleet.url, digits, seed, name)
            async with Witness(BrokerConfig(fleet.url)) as witness:
                await asyncio.gather(*(load.run(source, works, rate_hz) for source in sources))
            phases[name] = phase_of(name, load.outcomes, witness.duplicated, witness.redelivered, []).figures
    return phases


def cpu_s() -> float:
    """CPU seconds of this process and of every one that it has started and seen end."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    began = time.monotonic()
    phases = asyncio.run(measure(arguments.works, arguments.seed))
    busy = cpu_s() / (time.monotonic() - began)
    alone, together, yard = phases["alone"]["gate"], phases["together"]["gate"], phases["together"]["yard"]
    mean, p99 = together.mean_s / alone.mean_s, together.p99_s / alone.p99_s
    clean = all(f.lost == f.duplicated == f.failed == f.refused == f.inexact == 0 for f in (alone, together, yard))
    holds: List[bool] = [mean <= MEAN_MAX, clean]
    if arguments.json:
        print(json.dumps({"mean_ratio": mean, "p99_ratio": p99, "cores_busy": busy, "clean": clean}))
    else:
        print(f"urgent alone: mean {alone.mean_s * 1e3:.0f} ms, p99 {alone.p99_s * 1e3:.0f} ms ({alone.count} works)")
        print(f"together:     mean {together.mean_s * 1e3:.0f} ms, p99 {together.p99_s * 1e3:.0f} ms; the other source "
              f"mean {yard.mean_s * 1e3:.0f} ms; {busy:.2f} cores busy over the run")  # fmt: skip
        print(f"{'holds ' if holds[0] else 'BROKEN'} urgent mean at 0.9 load / alone: {mean:.3f} <= {MEAN_MAX}")
        print(f"       urgent p99 at 0.9 load / alone: {p99:.3f}")
        print(f"{'holds ' if clean else 'BROKEN'} nothing lost, failed, refused, inexact or answered twice")
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
