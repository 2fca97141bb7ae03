"""What each step of ``as-if-alone`` gives: alone on top of ``pa-mdi``, and left out of the whole.

Also models that are cut finer, which no policy decides: more preemption points, and more places to cut.
"""

from statistics import mean
from typing import Any, Dict, List, Sequence, Tuple

from benchmarks.paper.all_settings import headline
from benchmarks.paper.settings import Setting, colosseum, cpu_speeds, xavier_mesh
from benchmarks.paper.shapes import gpt2, parts, resnet50
from benchmarks.paper.sweep import Point, Row, measure_all
from pamdi.core.policy import POLICIES
from pamdi.core.policy.as_if_alone import AsIfAlone

LOAD = 0.9
STEPS: Dict[str, Tuple[str, ...]] = {
    "stands back": ("hold_share",),
    "looks ahead": ("looks_ahead",),
    "waits": ("patient",),
    "weighs its link": ("weighs_links",),
    "pays for transfers": ("transfer_price",),
    "tells what waits": ("tells_waiting",),
}
CUT_INTO = (2, 4, 8)


def variants() -> Dict[str, AsIfAlone]:
    """By name, ``as-if-alone`` with one step only (+), or without one (-)."""
    found: Dict[str, AsIfAlone] = {}
    for step, flags in STEPS.items():
        found[f"pa-mdi + {step}"] = _without(f"pa-mdi + {step}", [f for other in STEPS.values() for f in other], flags)
        found[f"all - {step}"] = _without(f"all - {step}", flags, ())
    return found


def _without(name: str, flags: Sequence[str], but: Sequence[str]) -> AsIfAlone:
    policy: Any = AsIfAlone()
    policy.name = name
    for flag in flags:
        if flag not in but:
            setattr(policy, flag, getattr(POLICIES["pa-mdi"], flag))
    return policy  # type: ignore[no-any-return]


# Registered wherever this file is read, worker processes included: a scenario names its policy.
POLICIES.update(variants())


def step_lines(capacity: Dict[str, float], seeds: Sequence[int], processes: int) -> List[str]:
    names = ["pa-mdi", *(name for name in variants() if "+" in name), "as-if-alone"]
    names += [name for name in variants() if "-" in name and "+" not in name]
    mesh, multihop, text, mesh_turns, multihop_turns = headline()
    columns = [(mesh, LOAD), (mesh_turns, LOAD), (multihop_turns, LOAD), (text, LOAD), (mesh, None), (multihop, None)]
    points = [
        Point(s.name, s.fleet, name, load, seed, load * capacity[s.name] if load else None)
        for name in names for s, load in columns for seed in seeds
    ]  # fmt: skip
    rows: Dict[Tuple[str, str, Any], List[Row]] = {}
    for point, row in zip(points, measure_all(points, processes)):
        rows.setdefault((point.policy, point.setting, point.load), []).append(row)
    titles = [f"{s.name}, {load or 'sat.'}" for s, load in columns]
    lines = ["steps: urgent mean / p99, others' mean in ms", f"{'':28}" + "".join(f"{title:>32}" for title in titles)]
    for name in names:
        cells = (_cell(rows[name, s.name, load]) for s, load in columns)
        lines.append(f"{name:28}" + "".join(f"{cell:>32}" for cell in cells))
    return lines


def finer_lines(capacity: Dict[str, float], seeds: Sequence[int], processes: int) -> List[str]:
    """The same load in works per second, however the model is cut."""
    points: List[Point] = []
    for count in CUT_INTO:
        for s in _cut(count):
            points += [
                Point(f"{s.name} in {count}", s.fleet, policy, LOAD, seed, LOAD * capacity[s.name])
                for policy in ("pa-mdi", "as-if-alone") for seed in seeds
            ]  # fmt: skip
    rows: Dict[Tuple[str, str], List[Row]] = {}
    for point, row in zip(points, measure_all(points, processes)):
        rows.setdefault((point.setting, point.policy), []).append(row)
    lines = [
        f"models cut into {', '.join(map(str, CUT_INTO))} parts, load {LOAD}: urgent mean / p99, others' mean in ms"
    ]
    return lines + [f"{setting:24} {policy:12} {_cell(found):>28}" for (setting, policy), found in rows.items()]


def _cut(count: int) -> List[Setting]:
    fifty, text, cpu = parts(resnet50(), count), parts(gpt2(), count), cpu_speeds()
    return [xavier_mesh([fifty] * 5, cpu), xavier_mesh([fifty] * 5, cpu).taking_turns(), colosseum([text] * 5, cpu)]


def _cell(rows: Sequence[Row]) -> str:
    urgent, *others = rows[0].sources
    mean_s, p99_s = (mean(getattr(row.sources[urgent], f) for row in rows) for f in ("mean_s", "p99_s"))
    others_s = mean(row.sources[id].mean_s for row in rows for id in others)
    return f"{1e3 * mean_s:.1f} / {1e3 * p99_s:.0f}, {1e3 * others_s:.0f}"
