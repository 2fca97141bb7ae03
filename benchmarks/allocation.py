"""The solver's claims: ``fast`` beside ``exact`` on small fleets, and how soon there is a plan of a large one.

    python -m benchmarks.allocation [--instances 100] [--devices 1000 --sources 200] [--seeds 3] [--largest] [--json]

Small: random fleets of 4 devices, 3 sources and 4 units, loose and tight memory by turns; J - J0 of ``fast`` as a ratio
to that of ``exact``. Large: 16 links a device, 16 units, many sources too heavy for one device; what was reached when
is read off the search's own notes. Its limit is the least of its own end and of ``--restarts`` runs that go on twice as
long, look at twice as many devices, and place the sources in other orders; the bound that can be proven (nobody waits)
stands beside it. Seconds are of this process on one core; the imports and the making of the fleet are apart.
``asked`` is the share of all seconds that the sources ask for, by an average device; the mean load of the devices in
the plan found is printed too, since the fast ones take most.
"""

import argparse
import itertools
import json
import math
import random
import statistics
import sys
import time
from typing import Any, Dict, List, Sequence, Tuple

from tests.controller.random_fleets import random_fleet

from pamdi.controller.fleet import DeviceEntry, Fleet, LinkEntry, ModelEntry, SourceEntry
from pamdi.controller.infeasible import Infeasible
from pamdi.controller.solver.bound import lower_bound
from pamdi.controller.solver.fast import Effort, Fast
from pamdi.controller.solver.problem import Problem
from pamdi.controller.solver.solve import solve
from pamdi.controller.solver.state import Mix, State

RATIO_MAX = 1.01
FEASIBLE_S_MAX, CLOSE_S_MAX, LARGEST_S_MAX = 1.0, 5.0, 60.0
LONG = Effort(1, 0, 4, (32, 48, 64, 96), rounds=120)
SETTINGS = {  # asked, memory
    "light": (0.2, (2.0, 4.0)),
    "half": (0.5, (2.0, 4.0)),
    "loose": (0.8, (2.0, 4.0)),
    "tight": (0.8, (0.9, 1.6)),
}
SPEEDS = {"orin": 0.5, "xavier": 1.0, "nano": 2.5}


def small(instances: int) -> Dict[str, Any]:
    ratios: List[float] = []
    seconds: Dict[str, List[float]] = {"exact": [], "fast": []}
    without = 0
    for seed in range(instances):
        fleet = random_fleet(seed, 4, 3, 4, tight=seed % 2 == 1)
        spans = {}
        for solver in ("exact", "fast"):
            began = time.process_time()
            try:
                solved = solve(fleet, solver)
                spans[solver] = solved.plan.objective - solved.cost.floor
            except Infeasible:
                spans[solver] = math.inf
            seconds[solver].append(time.process_time() - began)
        if math.isinf(spans["exact"]):
            without += 1
        else:
            ratios.append(spans["fast"] / spans["exact"])
    return {
        "instances": instances,
        "without_integral_plan": without,
        "worst_ratio": max(ratios),
        "median_ratio": statistics.median(ratios),
        "best_ratio": min(ratios),
        "exact_s": statistics.median(seconds["exact"]),
        "fast_s": statistics.median(seconds["fast"]),
    }


def large_fleet(
    devices: int, sources: int, units: int = 16, seed: int = 1, load: float = 0.2,
    memory: Tuple[float, float] = (2.0, 4.0),
) -> Fleet:  # fmt: skip
    """Links to 8 random others, both ways; each device holds ``memory`` models, from .. to; ``load`` is about the share
    of all seconds that is asked for."""
    rng = random.Random(seed)
    ids = [f"d{n:05d}" for n in range(devices)]
    kinds = [rng.choice(sorted(SPEEDS)) for _ in ids]
    models = [_model(rng, f"m{n}", units) for n in range(4)]
    whole = sum(sum(model.memory) for model in models) / len(models)
    boards = [DeviceEntry(id, kind, int(whole * rng.uniform(*memory))) for id, kind in zip(ids, kinds)]
    pairs = {(min(a, b), max(a, b)) for a in range(devices) for b in rng.sample(range(devices), 8) if a != b}
    links = [
        LinkEntry(ids[a], ids[b], rng.choice([2.5e6, 1.25e7, 1.25e8]), rng.choice([0.0005, 0.002]))
        for a, b in sorted(pairs)
    ]
    wanted = []
    for n in range(sources):
        model, head = rng.choice(models), rng.choice(ids)
        rate_hz = rng.uniform(0.3, 1.7) * load * devices / sources / sum(model.seconds["xavier"])
        wanted.append(
            SourceEntry(f"s{n:04d}", model.id, head, gamma=rng.choice([1.0, 2.0, 5.0, 10.0]), rate_hz=rate_hz)
        )
    return Fleet(boards, links, [], models, wanted)


def _model(rng: random.Random, id: str, units: int) -> ModelEntry:
    base = [rng.uniform(0.002, 0.01) for _ in range(units)]
    sizes = [*(rng.choice([16_000, 64_000, 150_000, 300_000]) for _ in range(units)), 4_000]
    memory = [rng.randint(2_000_000, 20_000_000) for _ in range(units)]
    seconds = {kind: [s * speed for s in base] for kind, speed in SPEEDS.items()}
    return ModelEntry(id, [f"u{u}" for u in range(units)], sizes, memory, seconds)


def large(
    devices: int, sources: int, load: float = 0.2, memory: Tuple[float, float] = (2.0, 4.0), restarts: int = 0,
    seed: int = 1,
) -> Dict[str, Any]:  # fmt: skip
    fleet = large_fleet(devices, sources, seed=seed, load=load, memory=memory)
    began = time.process_time()
    problem = Problem(fleet)
    search = Fast(problem, clock=time.process_time)
    before = time.process_time() - began
    mixes = search.run() or []
    reached: List[Tuple[float, float]] = [(before + step.seconds, step.objective) for step in search.trace]
    limit = min([reached[-1][1], *(_limit(problem, n) for n in range(restarts))])
    bound = lower_bound(problem)
    first = next(((s, o) for s, o in reached if math.isfinite(o)), (math.inf, math.inf))
    at_five = min((objective for s, objective in reached if s <= CLOSE_S_MAX), default=math.inf)
    return {
        "devices": devices, "sources": sources, "asked": load, "mean_load": _mean_load(problem, mixes),
        "first_plan_s": first[0], "first_ratio": first[1] / limit, "ratio_at_5_s": at_five / limit,
        "close_s": next((s for s, objective in reached if objective <= RATIO_MAX * limit), math.inf),
        "all_s": reached[-1][0], "end_ratio": reached[-1][1] / limit, "limit_over_bound": limit / bound,
        "restarts": restarts,
    }  # fmt: skip


def _limit(problem: Problem, order: int) -> float:
    """J at the end of a long run; infinite where memory is too short for placing them in that order."""
    search = Fast(problem, LONG._replace(order=order), clock=time.process_time)
    search.run()
    return min((step.objective for step in search.trace), default=math.inf)


def _mean_load(problem: Problem, mixes: Sequence[Mix]) -> float:
    state = State(problem, 1e-4)
    for s, mix in enumerate(mixes):
        state.put(s, mix)
    return statistics.mean(state.load(d) for d in range(len(problem.ids)))


def _judge(name: str, found: Dict[str, Any]) -> List[Tuple[bool, str]]:
    where = f"{found['devices']} devices, {found['sources']} sources, {name} (devices {found['mean_load']:.0%} busy)"
    return [
        (
            found["first_plan_s"] <= FEASIBLE_S_MAX,
            f"{where}: a plan after {found['first_plan_s']:.2f} s ({found['first_ratio']:.3f} of the limit)",
        ),
        (
            found["ratio_at_5_s"] <= RATIO_MAX,
            f"{where}: at {CLOSE_S_MAX:g} s {found['ratio_at_5_s']:.4f} of the limit ({found['restarts']} long runs); "
            f"within 1 % after {found['close_s']:.1f} s, end {found['end_ratio']:.4f} after {found['all_s']:.1f} s; "
            f"the limit is {found['limit_over_bound']:.2f} of the proven bound",
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--sources", type=int, default=200)
    parser.add_argument("--restarts", type=int, default=2, help="long runs that say what the limit is (2)")
    parser.add_argument("--seeds", type=int, default=3, help="fleets of each setting (3)")
    parser.add_argument("--largest", action="store_true", help="10,000 devices and 2,000 sources too")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures: Dict[str, Any] = {}
    holds: List[Tuple[bool, str]] = []
    if arguments.instances:
        few = figures["small"] = small(arguments.instances)
        holds.append((few["worst_ratio"] <= RATIO_MAX,
                      f"fast / exact, J - J0, {few['instances']} small fleets: worst {few['worst_ratio']:.4f}, median "
                      f"{few['median_ratio']:.4f}, best {few['best_ratio']:.4f} (at most {RATIO_MAX}); "
                      f"{few['without_integral_plan']} had no integral plan"))  # fmt: skip
    if arguments.devices:
        for (name, (load, memory)), n in itertools.product(SETTINGS.items(), range(1, arguments.seeds + 1)):
            found = large(arguments.devices, arguments.sources, load, memory, arguments.restarts, n)
            figures[f"{name} {n}"] = found
            holds.extend(_judge(f"{name} {n}", found))
    if arguments.largest:
        most = figures["largest"] = large(10_000, 2_000)
        holds.append(
            (
                most["all_s"] <= LARGEST_S_MAX,
                f"10000 devices, 2000 sources: {most['all_s']:.1f} s, first plan {most['first_plan_s']:.1f} s",
            )
        )
    if arguments.json:
        print(json.dumps(figures))
    else:
        for held, what in holds:
            print(f"{'holds ' if held else 'BROKEN'} {what}")
    return 0 if all(held for held, _ in holds) else 1


if __name__ == "__main__":
    sys.exit(main())
