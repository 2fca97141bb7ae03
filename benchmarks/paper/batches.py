"""Batching normal works only while no urgent one is near: what it gives, and what it would cost not to look.

    python -m benchmarks.paper.batches

The setting of ``alone`` at two loads (1.0 is what the devices get through one by one), and three of the paper's at
saturation. A batch of 2, 4 or 8 is assumed to take 1.5, 2.5 or 4.5 times one; no board was measured. "Beside urgent"
makes batches also while a more urgent work waits or was promised room, and is otherwise ``as-if-alone``.
"""

from statistics import mean
from typing import Any, Dict, List, Optional, Sequence, Tuple

import msgspec

from benchmarks.paper.all_settings import headline
from benchmarks.paper.alone import DEVICES, WORK_S, scenario
from benchmarks.paper.sweep import WORKS, Point, Row, measure_all
from pamdi.core.policy import POLICIES
from pamdi.core.policy.as_if_alone import AsIfAlone
from pamdi.simulator.scenario import Scenario

LOADS, WORKS_ALONE = (0.9, 1.1), 500
TIMES_ONE = {2: 1.5, 4: 2.5, 8: 4.5}
BESIDE = "as-if-alone, batches beside urgent"
RULES = (
    ("no batches", "as-if-alone", False),
    ("while none is near", "as-if-alone", True),
    ("beside urgent", BESIDE, True),
)


def _beside() -> AsIfAlone:
    policy: Any = AsIfAlone()
    policy.name, policy.batches_beside_urgent = BESIDE, True
    return policy  # type: ignore[no-any-return]


POLICIES[BESIDE] = _beside()  # wherever this file is read, worker processes included: a scenario names its policy


def in_batches(fleet: Scenario) -> Scenario:
    """``fleet`` with engines that take up to eight inputs at once, on every type of device."""
    models = []
    for model in fleet.model:
        seconds = {
            type: {str(batch): [times * s for s in units] for batch, times in TIMES_ONE.items()}
            for type, units in model.seconds.items()
        }
        models.append(msgspec.structs.replace(model, batch_seconds=seconds))
    return msgspec.structs.replace(fleet, model=models)


def batch_lines(seeds: Sequence[int], processes: int = 2) -> List[str]:
    """Per setting and rule: the urgent source's mean and p99, the others' mean, and until the last answer."""
    cases: List[Tuple[str, Scenario, Optional[float], int]] = [
        (f"alone, {load}", scenario(), load * DEVICES / WORK_S, WORKS_ALONE) for load in LOADS
    ]
    cases += [(f"{s.name}, saturated", s.fleet, None, WORKS) for s in headline()[2:]]
    points = [
        Point(f"{name}: {rule}", in_batches(fleet) if batched else fleet, policy, None, seed, hz, False, works)
        for name, fleet, hz, works in cases for rule, policy, batched in RULES for seed in seeds
    ]  # fmt: skip
    rows: Dict[str, List[Row]] = {}
    for row in measure_all(points, processes):
        rows.setdefault(row.setting, []).append(row)
    return ["batches:", *(_line(name, found) for name, found in rows.items())]


def _line(name: str, rows: Sequence[Row]) -> str:
    sources = [list(row.sources.values()) for row in rows]  # the urgent one is the first
    urgent_s, p99_s = mean(s[0].mean_s for s in sources), mean(s[0].p99_s for s in sources)
    others_s = mean(other.mean_s for s in sources for other in s[1:])
    return (
        f"{name:58} urgent {1e3 * urgent_s:6.0f} ms, p99 {1e3 * p99_s:6.0f}; "
        f"the others {1e3 * others_s:6.0f}; all answered after {mean(row.span_s for row in rows):5.1f} s"
    )


if __name__ == "__main__":
    print("\n".join(batch_lines((201, 202, 203))))
