"""Rows of the sweep put side by side: cuts, what the others pay, and what must hold."""

from statistics import mean
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from benchmarks.paper.settings import Setting
from benchmarks.paper.sweep import Row

POLICIES = ("pa-mdi", "as-if-alone", "ms-mdi", "ar-mdi", "ddi", "local")
LOADS = (0.3, 0.5, 0.7, 0.9, 1.0, 1.1, 1.2)
LOSS_MAX = 0.05  # of a source's throughput, against MS-MDI


class Cell(NamedTuple):
    """Means over seeds at one load. ``others_*``: means over the sources that are not urgent; ``jain``: of all sources'
    throughput; ``least_kept``: the smallest share of its throughput under MS-MDI that any source keeps."""

    urgent_s: float
    urgent_p99_s: float
    others_s: float
    others_p99_s: float
    urgent_hz: float
    others_hz: float
    jain: float
    least_kept: float
    slowdown: Optional[float]


class Table:
    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows: Dict[Tuple[str, Optional[float], str, bool], List[Row]] = {}
        for row in rows:
            self._rows.setdefault((row.setting, row.load, row.policy, row.only), []).append(row)

    def cell(self, setting: str, load: Optional[float], policy: str) -> Cell:
        rows = self._rows[setting, load, policy, False]
        baseline = self._rows[setting, load, "ms-mdi", False]
        alone = self._rows.get((setting, load, "as-if-alone", True))
        urgent, *others = rows[0].sources

        def of(ids: Sequence[str], field: str, among: List[Row]) -> float:
            values: List[float] = [getattr(row.sources[id], field) for row in among for id in ids]
            return mean(values)

        rates = [of([id], "throughput_hz", rows) for id in (urgent, *others)]
        kept = [rate / of([id], "throughput_hz", baseline) for id, rate in zip((urgent, *others), rates)]
        urgent_s = of([urgent], "mean_s", rows)
        return Cell(
            urgent_s, of([urgent], "p99_s", rows), of(others, "mean_s", rows), of(others, "p99_s", rows), rates[0],
            mean(rates[1:]), sum(rates) ** 2 / (len(rates) * sum(rate * rate for rate in rates)), min(kept),
            urgent_s / of([urgent], "mean_s", alone) if alone else None,
        )  # fmt: skip

    def cuts(self, setting: str, load: Optional[float], policy: str = "as-if-alone") -> Tuple[float, float]:
        """Of the urgent source's mean, in per cent, against AR-MDI and MS-MDI."""
        ours = self.cell(setting, load, policy).urgent_s
        ar, ms = (self.cell(setting, load, other).urgent_s for other in ("ar-mdi", "ms-mdi"))
        return 100 * (1 - ours / ar), 100 * (1 - ours / ms)

    def lines(self, setting: str) -> List[str]:
        lines = [
            f"{'load':>5} {'policy':12} {'urgent ms':>10} {'p99':>8} {'others ms':>10} {'p99':>8} {'urgent/s':>9} "
            f"{'others/s':>9} {'Jain':>5} {'kept':>5} {'/alone':>6} {'cut AR':>7} {'cut MS':>7}"
        ]
        for load in (*LOADS, None):
            for policy in POLICIES:
                c = self.cell(setting, load, policy)
                ar, ms = self.cuts(setting, load, policy)
                slowdown = f"{c.slowdown:6.2f}" if c.slowdown else "     -"
                lines.append(
                    f"{load if load else 'sat.':>5} {policy:12} {1e3 * c.urgent_s:10.1f} {1e3 * c.urgent_p99_s:8.0f} "
                    f"{1e3 * c.others_s:10.1f} {1e3 * c.others_p99_s:8.0f} {c.urgent_hz:9.2f} {c.others_hz:9.2f} "
                    f"{c.jain:5.2f} {c.least_kept:5.2f} {slowdown} {ar:7.1f} {ms:7.1f}"
                )
        return lines


def must_hold(table: Table, settings: Sequence[Setting]) -> Tuple[bool, List[str]]:
    """The first load at which both published cuts are reached with no source losing more than LOSS_MAX."""
    lines = [f"{'setting':22} {'policy':12} {'load':>5} {'published AR / MS':>18} {'ours AR / MS':>14} {'kept':>5}"]
    held = True
    for setting in settings:
        for policy in ("pa-mdi", "as-if-alone") if setting.published else ():
            found = _first(table, setting, policy)
            ok = found is not None
            held = held and (ok or policy != "as-if-alone")
            load = found if ok else max(LOADS)
            ar, ms = table.cuts(setting.name, load, policy)
            kept = table.cell(setting.name, load, policy).least_kept
            word = "holds " if ok else "BROKEN"
            said = "{:.1f} / {:.1f}".format(*setting.published or (0, 0))
            lines.append(
                f"{word} {setting.name:22} {policy:12} {load or 'sat.':>5} {said:>14} {ar:7.1f} / {ms:.1f} {kept:5.2f}"
            )
    return held, lines


def _first(table: Table, setting: Setting, policy: str) -> Optional[float]:
    assert setting.published is not None
    for load in LOADS:
        ar, ms = table.cuts(setting.name, load, policy)
        enough = ar >= setting.published[0] and ms >= setting.published[1]
        if enough and table.cell(setting.name, load, policy).least_kept >= 1 - LOSS_MAX:
            return load
    return None
