"""The story of the demo: a fleet comes up, works under two policies with the same arrivals, loses a device half way,
and a table says what that cost whom."""

import asyncio
import contextlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import msgspec

from pamdi.core.policy import policy_named
from pamdi.demo.figures import Outcome, SourceFigures, source_figures, utilisation
from pamdi.demo.fleet import Fleet, Options
from pamdi.demo.load import Digits, Load
from pamdi.demo.trace import write_trace
from pamdi.demo.view import View, final_table, print_table

DOWN_S = 2.0
ALONE = "alone"
EXTRA_S = 10.0


class Story(NamedTuple):
    """``works`` per source and policy; ``dock`` gets as many as its lower rate allows in the same time."""

    works: int = 200
    policies: Tuple[str, ...] = ("pa-mdi", "ms-mdi")
    kill: bool = True
    alone: bool = True
    seed: int = 1
    trace: Optional[Path] = None
    as_json: bool = False


class Phase(NamedTuple):
    name: str
    outcomes: Dict[str, List[Outcome]]
    figures: Dict[str, SourceFigures]
    kills: List[Dict[str, Any]]


async def serve(options: Options) -> int:
    """``--serve``: no load of our own; up until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Fleet(options, announce=True):
        print(json.dumps({"ready": True}), file=sys.stderr, flush=True)
        await stop.wait()
    return 0


async def tell(options: Options, story: Story) -> int:
    """Run the demo. Returns 0, or 1 when something was lost, answered twice, or differed from the uncut model."""
    for policy in story.policies:
        policy_named(policy)
    emulated = (
        f"links {options.link_rate_bytes_per_s * 8e-6:g} Mb/s and {options.link_delay_s * 1000:g} ms, "
        f"each inference padded to {options.unit_s * 1000:g} ms"
    )
    view = View([f"d{i}" for i in range(options.devices)], emulated)
    view.say(f"starting a broker, a controller and {options.devices} device daemons ({emulated})")
    digits = await asyncio.get_running_loop().run_in_executor(None, Digits)
    phases: List[Phase] = []
    async with Fleet(options._replace(policy=story.policies[0]), announce=True) as fleet:
        print(json.dumps({"ready": True}), file=sys.stderr, flush=True)
        view.say(f"the fleet is up; broker: {fleet.broker_name} at {fleet.url}")
        view.open()
        try:
            if story.alone:
                phases.append(await _phase(fleet, view, digits, story, ALONE, story.policies[0]))
            for policy in story.policies:
                phases.append(await _phase(fleet, view, digits, story, policy, policy))
        finally:
            view.close()
        heads = {source.id: source.device for source in fleet.sources}
    document = _document(phases, heads)
    if story.trace is not None:
        shown = next(phase for phase in phases if phase.name == story.policies[0])
        every = [outcome for outcomes in shown.outcomes.values() for outcome in outcomes]
        count = write_trace(story.trace, every, {"gate"}, heads)
        view.say(f"{story.trace}: {count} events of {shown.name}; open it in ui.perfetto.dev or chrome://tracing")
    if story.as_json:
        print(json.dumps(document, indent=1))
    else:
        _print(phases, document)
    return 0 if _clean(phases) else 1


async def _phase(fleet: Fleet, view: View, digits: Digits, story: Story, name: str, policy: str) -> Phase:
    """One run of the load. Not alone: dock joins after a quarter of the works, one device dies after half of them."""
    crowd = name != ALONE
    await fleet.configure(policy, ["gate", "yard"])
    load = Load(fleet.url, digits, story.seed, name)
    kills: List[Dict[str, Any]] = []
    gate, yard, dock = fleet.sources
    span_s = story.works / fleet.rate_hz(gate)
    jobs = [load.run("gate", story.works, fleet.rate_hz(gate))]
    if crowd:
        jobs.append(load.run("yard", story.works, fleet.rate_hz(yard)))
        works = max(1, int(story.works * 0.75 * dock.share / gate.share))
        jobs.append(_dock_joins(fleet, load, works, fleet.rate_hz(dock), span_s / 4))
        if story.kill:
            jobs.append(_kill_and_restart(fleet, view, span_s / 2, kills))
    drawing = asyncio.ensure_future(_draw(fleet, view, load, f"{name} ({policy})" if not crowd else name))
    try:
        await asyncio.gather(*jobs)
    finally:
        drawing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await drawing
    figures = {
        source: source_figures(load.outcomes[source], load.duplicated.get(source, 0), load.redelivered.get(source, 0))
        for source in load.wanted
    }
    return Phase(name, load.outcomes, figures, kills)


async def _dock_joins(fleet: Fleet, load: Load, works: int, rate_hz: float, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await fleet.admit("dock")
    await load.run("dock", works, rate_hz)


async def _kill_and_restart(fleet: Fleet, view: View, after_s: float, kills: List[Dict[str, Any]]) -> None:
    victim = fleet.devices[min(3, len(fleet.devices) - 1)]
    if victim in {source.device for source in fleet.sources}:
        return  # too few devices to spare one
    await asyncio.sleep(after_s)
    began = time.monotonic()
    fleet.kill(victim)
    view.say(f"kill -9 {victim}")
    await asyncio.sleep(DOWN_S)
    fleet.start(victim)
    kills.append({"device": victim, "at_s": round(after_s, 3), "down_s": round(time.monotonic() - began, 3)})
    view.say(f"{victim} is started again")


async def _draw(fleet: Fleet, view: View, load: Load, phase: str) -> None:
    while True:
        view.update(phase, fleet.watcher, load)
        await asyncio.sleep(0.12)


def _document(phases: List[Phase], heads: Dict[str, str]) -> Dict[str, Any]:
    answers = [
        o for phase in phases for outcomes in phase.outcomes.values() for o in outcomes if o.status == "answered"
    ]
    policies = {}
    for phase in phases:
        every = [outcome for outcomes in phase.outcomes.values() for outcome in outcomes]
        devices, links = utilisation(every, heads)
        sources = {source: msgspec.to_builtins(figures) for source, figures in phase.figures.items()}
        policies[phase.name] = {"sources": sources, "devices": devices, "links": links}
    return {
        "policies": policies,
        "accuracy": sum(o.correct for o in answers) / len(answers) if answers else None,
        "accuracy_uncut": sum(o.uncut_correct for o in answers) / len(answers) if answers else None,
        "answers_bit_equal": sum(o.exact for o in answers),
        "answers": len(answers),
        "kills": [dict(kill, policy=phase.name) for phase in phases for kill in phase.kills],
    }


def _clean(phases: List[Phase]) -> bool:
    return all(
        f.lost == f.duplicated == f.inexact == f.failed == f.refused == 0 for p in phases for f in p.figures.values()
    )


def _print(phases: List[Phase], document: Dict[str, Any]) -> None:
    print_table(final_table([(p.name, source, f) for p in phases for source, f in p.figures.items()]))
    by_name = {phase.name: phase.figures for phase in phases}
    for line in ratio_lines(by_name):
        print(line)
    equal = document["answers_bit_equal"] == document["answers"]
    print(
        f"accuracy on the digits through the fleet {document['accuracy']:.4f}, of the uncut model on the same "
        f"{document['accuracy_uncut']:.4f}; {document['answers_bit_equal']} of {document['answers']} answers are "
        f"{'all ' if equal else ''}bit for bit the uncut model's"
    )
    for phase in phases:
        for kill in phase.kills:
            resent = sum(f.resent for f in phase.figures.values())
            lost = sum(f.lost for f in phase.figures.values())
            print(
                f"{phase.name}: {kill['device']} was killed (SIGKILL) after {kill['at_s']:.1f} s and was away for "
                f"{kill['down_s']:.1f} s; {resent} works were handed on again or replayed, {lost} lost"
            )


def ratio_lines(figures: Dict[str, Dict[str, SourceFigures]]) -> List[str]:
    """The point of it all, in words."""
    lines = []
    ours = figures.get("pa-mdi", {})
    gate = ours.get("gate")
    alone = figures.get(ALONE, {}).get("gate")
    others = figures.get("ms-mdi", {})
    if gate is not None and gate.mean_s and alone is not None and alone.mean_s:
        lines.append(
            f"gate, the urgent source, takes {gate.mean_s / alone.mean_s:.2f} x what it takes alone on the fleet"
        )
    if gate is not None and gate.mean_s and others.get("gate") is not None and others["gate"].mean_s:
        cut = 100 * (1 - gate.mean_s / others["gate"].mean_s)
        lines.append(f"gate is answered {cut:.0f} % sooner than without priorities (ms-mdi)")
    if ours.get("yard") is not None and others.get("yard") is not None:
        a, b = ours["yard"].throughput_hz, others["yard"].throughput_hz
        if a and b:
            lines.append(f"yard, the normal source, keeps {a / b:.2f} x the throughput it has without priorities")
    return lines
