"""Rows of the sweep put side by side: cuts, what the others pay, and what must hold.

What a source keeps of its throughput is said twice. *Kept*: works per second until the source's own last answer.
*Kept over the run*: its works per second until the last answer of all. While works come by Poisson the two hardly
differ. When all works are there at once they do: a source that ends before the others under MS-MDI ends later when
another source is put first, although not one second of computing is lost. There the first measure says in which order
sources end, the second what the fleet gets through.
"""

from statistics import mean
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from benchmarks.paper.settings import Setting
from benchmarks.paper.sweep import Row

POLICIES = ("pa-mdi", "as-if-alone", "ms-mdi", "ar-mdi", "ddi", "local")
LOSS_MAX = 0.05  # of a source's throughput, against MS-MDI


class Cell(NamedTuple):
    """Means over seeds at one load. ``others_*``: means over the sources that are not urgent; ``jain``: of all sources'
    throughput; ``least_kept``: the smallest share of its throughput under MS-MDI that any source keeps, and over the
    whole run. Shares of the time: ``busiest`` device, ``devices`` on average, ``radio``."""

    urgent_s: float
    urgent_p99_s: float
    others_s: float
    others_p99_s: float
    urgent_hz: float
    others_hz: float
    jain: float
    least_kept: float
    least_kept_of_run: float
    slowdown: Optional[float]
    busiest: float
    devices: float
    radio: float


class Table:
    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows: Dict[Tuple[str, Optional[float], str, bool], List[Row]] = {}
        for row in rows:
            self._rows.setdefault((row.setting, row.load, row.policy, row.only), []).append(row)

    def cell(self, setting: str, load: Optional[float], policy: str) -> Cell:
        rows = self._rows[setting, load, policy, False]
        baseline = self._rows[setting, load, "ms-mdi", False]
        alone_s = self.alone_s(setting, load)
        urgent, *others = rows[0].sources

        def of(ids: Sequence[str], field: str, among: List[Row]) -> float:
            values: List[float] = [getattr(row.sources[id], field) for row in among for id in ids]
            return mean(values)

        def of_run_hz(id: str, among: List[Row]) -> float:
            return mean(row.sources[id].ended / row.span_s for row in among)

        ids = (urgent, *others)
        rates = [of([id], "throughput_hz", rows) for id in ids]
        kept = [rate / of([id], "throughput_hz", baseline) for id, rate in zip(ids, rates)]
        urgent_s = of([urgent], "mean_s", rows)
        return Cell(
            urgent_s, of([urgent], "p99_s", rows), of(others, "mean_s", rows), of(others, "p99_s", rows), rates[0],
            mean(rates[1:]), sum(rates) ** 2 / (len(rates) * sum(rate * rate for rate in rates)), min(kept),
            min(of_run_hz(id, rows) / of_run_hz(id, baseline) for id in ids), urgent_s / alone_s if alone_s else None,
            mean(row.busiest for row in rows), mean(row.devices for row in rows), mean(row.radio for row in rows),
        )  # fmt: skip

    def alone_s(self, setting: str, load: Optional[float]) -> Optional[float]:
        """The urgent source's mean when it has the fleet to itself."""
        rows = self._rows.get((setting, load, "as-if-alone", True))
        return mean(next(iter(row.sources.values())).mean_s for row in rows) if rows else None

    def cuts(self, setting: str, load: Optional[float], policy: str = "as-if-alone") -> Tuple[float, float]:
        """Of the urgent source's mean, in per cent, against AR-MDI and MS-MDI."""
        ours = self.cell(setting, load, policy).urgent_s
        ar, ms = (self.cell(setting, load, other).urgent_s for other in ("ar-mdi", "ms-mdi"))
        return 100 * (1 - ours / ar), 100 * (1 - ours / ms)

    def lines(self, setting: Setting) -> List[str]:
        lines = [
            f"{'load':>5} {'policy':12} {'urgent ms':>10} {'p99':>8} {'others ms':>10} {'p99':>8} {'urgent/s':>9} "
            f"{'others/s':>9} {'Jain':>5} {'kept':>5} {'of run':>6} {'/alone':>6} {'cut AR':>7} {'cut MS':>7} "
            f"{'busiest':>7} {'all':>4} {'radio':>5}"
        ]
        for load in (*setting.loads, None):
            for policy in POLICIES:
                c = self.cell(setting.name, load, policy)
                ar, ms = self.cuts(setting.name, load, policy)
                slowdown = f"{c.slowdown:6.2f}" if c.slowdown else "     -"
                lines.append(
                    f"{load if load else 'sat.':>5} {policy:12} {1e3 * c.urgent_s:10.1f} {1e3 * c.urgent_p99_s:8.0f} "
                    f"{1e3 * c.others_s:10.1f} {1e3 * c.others_p99_s:8.0f} {c.urgent_hz:9.2f} {c.others_hz:9.2f} "
                    f"{c.jain:5.2f} {c.least_kept:5.2f} {c.least_kept_of_run:6.2f} {slowdown} {ar:7.1f} {ms:7.1f} "
                    f"{c.busiest:7.2f} {c.devices:4.2f} {c.radio:5.2f}"
                )
        return lines


def must_hold(table: Table, settings: Sequence[Setting]) -> Tuple[bool, List[str]]:
    """The first load at which both published cuts are reached with no source losing more than LOSS_MAX by either
    measure; and saturation, with what would be cut if the urgent source had the fleet to itself."""
    lines = [
        f"{'':6} {'setting':27} {'policy':12} {'load':>5} {'published AR / MS':>18} {'ours AR / MS':>14} {'kept':>5} "
        f"{'of run':>6}"
    ]
    held = True
    for setting in settings:
        for policy in ("pa-mdi", "as-if-alone") if setting.published else ():
            found = first_load(table, setting, policy)
            held = held and (found is not None or policy != "as-if-alone")
            lines.append(_promise(table, setting, policy, found or max(setting.loads), found is not None))
            lines.append(_promise(table, setting, policy, None, None))
    return held, lines


def first_load(table: Table, setting: Setting, policy: str) -> Optional[float]:
    assert setting.published is not None
    for load in setting.loads:
        ar, ms = table.cuts(setting.name, load, policy)
        cell = table.cell(setting.name, load, policy)
        enough = ar >= setting.published[0] and ms >= setting.published[1]
        if enough and min(cell.least_kept, cell.least_kept_of_run) >= 1 - LOSS_MAX:
            return load
    return None


def _promise(table: Table, setting: Setting, policy: str, load: Optional[float], held: Optional[bool]) -> str:
    ar, ms = table.cuts(setting.name, load, policy)
    cell = table.cell(setting.name, load, policy)
    word = {True: "holds", False: "BROKEN", None: ""}[held]
    said = "{:.1f} / {:.1f}".format(*setting.published or (0, 0))
    line = (
        f"{word:6} {setting.name:27} {policy:12} {load or 'sat.':>5} {said:>18} {ar:7.1f} / {ms:.1f} "
        f"{cell.least_kept:5.2f} {cell.least_kept_of_run:6.2f}"
    )
    if load is None and cell.slowdown:
        baseline_s = table.cell(setting.name, None, "ms-mdi").urgent_s
        line += f"   alone it would be {100 * (1 - cell.urgent_s / cell.slowdown / baseline_s):.1f}"
    return line
