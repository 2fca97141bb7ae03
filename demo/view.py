"""What a person sees: a live picture in a terminal, a line every two seconds otherwise, and one table at the end."""

import sys
import time
from typing import Any, List, Optional, Sequence, Tuple

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pamdi.client.figures import Outcome, SourceFigures, percentile
from pamdi.client.watcher import Watcher
from pamdi.demo.load import Load

LINE_EVERY_S = 2.0


class View:
    """``update`` as often as you like; it limits itself. Everything goes to standard error."""

    def __init__(self, devices: List[str], emulated: str) -> None:
        self.console = Console(stderr=True)
        self._devices, self._emulated = devices, emulated
        self._live: Optional[Live] = None
        self._said_at = 0.0

    def open(self) -> None:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=8, transient=True)
            self._live.start()

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)

    def update(self, phase: str, watcher: Watcher, load: Optional[Load]) -> None:
        if self._live is not None:
            self._live.update(self._picture(phase, watcher, load))
        elif time.monotonic() - self._said_at >= LINE_EVERY_S:
            self._said_at = time.monotonic()
            self.say(f"{phase}: {_progress(load)} | {_devices_line(self._devices, watcher)}")

    def _picture(self, phase: str, watcher: Watcher, load: Optional[Load]) -> Table:
        grid = Table.grid(padding=(0, 2))
        grid.add_row(f"[bold]{phase}[/]   emulated: {self._emulated}")
        devices = Table("device", "state", "segments ready", "running", "urgent queue", "normal queue", title=None)
        for device in self._devices:
            devices.add_row(*_device_row(device, watcher))
        grid.add_row(devices)
        if load is not None:
            sources = Table("source", "progress", "answered", "mean ms", "p95 ms")
            for source, wanted in load.wanted.items():
                sources.add_row(*_source_row(source, wanted, load))
            grid.add_row(sources)
        return grid


def _progress(load: Optional[Load]) -> str:
    if load is None or not load.wanted:
        return "starting"
    return ", ".join(
        f"{source} {len(load.outcomes[source])}/{wanted} mean {_mean_ms(load.outcomes[source])} ms"
        for source, wanted in load.wanted.items()
    )


def _devices_line(devices: List[str], watcher: Watcher) -> str:
    return (
        " ".join(f"{d}:{watcher.states.get(d, '?')}" for d in devices if watcher.states.get(d) != "online")
        or "all online"
    )


def _device_row(device: str, watcher: Watcher) -> Sequence[str]:
    state = watcher.states.get(device, "unknown")
    colour = {"online": "green", "offline": "red"}.get(state, "yellow")
    held, beacon = watcher.held.get(device), watcher.beacons.get(device)
    if state != "online" or held is None:
        return device, f"[{colour}]{state}[/]", "", "", "", ""  # what it held is history
    ready = "".join(str(s.first) if s.state == "ready" else "." for s in held.segments)
    if beacon is None:
        return device, f"[{colour}]{state}[/]", ready, "", "", ""
    top = max((c.urgency for c in beacon.backlog.classes), default=0.0)
    urgent = sum(c.seconds for c in beacon.backlog.classes if c.urgency == top and top > 1)
    normal = sum(c.seconds for c in beacon.backlog.classes) - urgent
    running = f"{beacon.backlog.running_s * 1000:.0f} ms"
    return device, f"[{colour}]{state}[/]", ready, running, f"{urgent * 1000:.0f} ms", f"{normal * 1000:.0f} ms"


def _source_row(source: str, wanted: int, load: Load) -> Sequence[str]:
    ends = load.outcomes[source]
    done = len(ends)
    bar = "#" * (20 * done // wanted) + "-" * (20 - 20 * done // wanted)
    latencies = sorted(o.ended_at - o.submitted_at for o in ends if o.ended_at is not None)
    p95 = percentile(latencies, 0.95)
    return source, bar, f"{done}/{wanted}", _mean_ms(ends), "" if p95 is None else f"{p95 * 1000:.0f}"


def _mean_ms(ends: List[Outcome]) -> str:
    latencies = [o.ended_at - o.submitted_at for o in ends if o.ended_at is not None]
    return f"{1000 * sum(latencies) / len(latencies):.0f}" if latencies else "-"


def final_table(rows: List[Tuple[str, str, SourceFigures]], caption: str = "", gap: int = 1) -> Table:
    """One row per policy and source; latencies in milliseconds, submit to answer. ``caption`` stands below it. With
    a ``gap`` of one between columns it fits a terminal of 80."""
    table = Table(
        title="mean, p50, p95, p99: submit to answer, milliseconds", caption=caption or None, box=box.SIMPLE_HEAD,
        padding=(0, gap - 1, 0, 0), pad_edge=False, show_edge=False, title_justify="left", caption_justify="left",
    )  # fmt: skip
    for name in ("policy", "source"):
        table.add_column(name)
    for name in ("count", "answered", "failed", "lost", "dup.", "mean", "p50", "p95", "p99", "works/s"):
        table.add_column(name, justify="right")
    last = ""
    for policy, source, f in rows:
        if last and policy != last:
            table.add_section()
        last = policy
        times = [_ms(value) for value in (f.mean_s, f.p50_s, f.p95_s, f.p99_s)]
        rate = "-" if f.throughput_hz is None else f"{f.throughput_hz:.1f}"
        counts = [str(n) for n in (f.count, f.answered, f.failed + f.refused, f.lost, f.duplicated)]
        table.add_row(policy, source, *counts, *times, rate)
    return table


def _ms(seconds: Optional[float]) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f}"


def print_table(table: Any) -> None:
    """To standard output, whole even where there is no terminal to measure."""
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120).print(table)


__all__ = ["View", "final_table", "print_table"]
