"""The story of the demo: a fleet comes up, works under two policies with the same arrivals, loses a device half way,
and a table says what that cost whom."""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, Awaitable, Coroutine, Dict, List, NamedTuple, Optional, Tuple

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.loops import run_together
from pamdi.demo.fleet import Fleet, Options
from pamdi.demo.load import Digits, Load
from pamdi.demo.report import ALONE, MEANING, Phase, document_of, is_clean, phase_of, print_report
from pamdi.demo.trace import write_trace
from pamdi.demo.view import View
from pamdi.demo.witness import Witness

DOWN_S = 2.0


class Story(NamedTuple):
    """``works`` per source and policy; ``dock`` gets as many as its lower rate allows in the same time."""

    works: int = 200
    policies: Tuple[str, ...] = ("pa-mdi", "ms-mdi")
    kill: bool = True
    alone: bool = True
    seed: int = 1
    trace: Optional[Path] = None
    as_json: bool = False


async def until_stopped(story: Coroutine[Any, Any, int], status: int) -> int:
    """Run ``story``; SIGINT or SIGTERM cancels it, so that the fleet is taken down, and ``status`` is returned."""
    task = asyncio.ensure_future(story)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return status


async def serve(options: Options) -> int:
    """``--serve``: every source, no load of our own, what dies is started again; until cancelled."""
    async with Fleet(options, announce=True, active=("gate", "yard", "dock")) as fleet:
        _say_ready()
        for line in _how_to_use(fleet):
            print(line, file=sys.stderr, flush=True)
        await fleet.keep_alive()
    return 0


def _how_to_use(fleet: Fleet) -> List[str]:
    """For a person; a program reads the lines that are JSON."""
    sources = ", ".join(f"{source.id} (gamma {source.gamma:g}, head {source.device})" for source in fleet.sources)
    return [
        f"the fleet is up: broker {fleet.url}, sources {sources}; Ctrl-C ends it. In another terminal, for example:",
        f"  export PAMDI_BROKER_URL={fleet.url}; pamdi status; pamdi drain d2; pamdi drain d2 --undo",
    ]


def _say_ready() -> None:
    print(json.dumps({"ready": True}), file=sys.stderr, flush=True)


async def tell(options: Options, story: Story) -> int:
    """Run the demo. Returns 0, or 1 when something was lost, answered twice, or differed from the uncut model."""
    emulated = (
        f"links {options.link_rate_bytes_per_s * 8e-6:g} Mb/s and {options.link_delay_s * 1000:g} ms, "
        f"each inference padded to {options.unit_s * 1000:g} ms"
    )
    view = View([f"d{i}" for i in range(options.devices)], emulated)
    view.say(f"starting a broker, a controller and {options.devices} device daemons ({emulated})")
    digits = await asyncio.get_running_loop().run_in_executor(None, Digits)
    phases: List[Phase] = []
    async with Fleet(options, announce=True) as fleet:
        _say_ready()
        view.say(f"the fleet is up; broker: {fleet.broker_name} at {fleet.url}")
        view.open()
        runs = [(ALONE, story.policies[0])] * story.alone + [(policy, policy) for policy in story.policies]
        about_s = story.works / fleet.rate_hz(fleet.sources[0])
        try:
            for number, (name, policy) in enumerate(runs, 1):
                what = MEANING.get(name, "the same arrivals")
                view.say(f"{number} of {len(runs)}, {name}: {what}; about {about_s:.0f} s")
                phases.append(await _phase(fleet, view, digits, story, name, policy))
        finally:
            view.close()
        heads = {source.id: source.device for source in fleet.sources}
        if not is_clean(phases):
            fleet.keep_folder = True
            view.say(f"a promise did not hold: logs and configurations are kept in {fleet.folder}")
    document = document_of(phases, heads)
    if story.trace is not None:
        shown = next(phase for phase in phases if phase.name == story.policies[0])
        every = [outcome for outcomes in shown.outcomes.values() for outcome in outcomes]
        count = write_trace(story.trace, every, {"gate"}, heads)
        view.say(f"{story.trace}: {count} events of {shown.name}; open it in ui.perfetto.dev or chrome://tracing")
    if story.as_json:
        print(json.dumps(document, indent=1))
    else:
        print_report(phases, document, emulated)
    return 0 if is_clean(phases) else 1


async def _phase(fleet: Fleet, view: View, digits: Digits, story: Story, name: str, policy: str) -> Phase:
    """One run of the load. Not alone: dock joins after a quarter of the works, one device dies after half of them."""
    crowd = name != ALONE
    await fleet.configure(policy, ["gate", "yard"])
    load = Load(fleet.url, digits, story.seed, name)
    kills: List[Dict[str, Any]] = []
    gate, yard, dock = fleet.sources
    span_s = story.works / fleet.rate_hz(gate)
    jobs: List[Awaitable[None]] = [load.run("gate", story.works, fleet.rate_hz(gate))]
    if crowd:
        jobs.append(load.run("yard", story.works, fleet.rate_hz(yard)))
        works = max(1, int(story.works * 0.75 * dock.share / gate.share))
        jobs.append(_dock_joins(fleet, load, works, fleet.rate_hz(dock), span_s / 4))
        if story.kill:
            jobs.append(_kill_and_restart(fleet, view, span_s / 2, kills))
    async with Witness(BrokerConfig(fleet.url)) as witness:
        await run_together({"load": _all(jobs), "watch": fleet.watch(), "draw": _draw(fleet, view, load, name)})
    return phase_of(name, load.outcomes, witness.duplicated, witness.redelivered, kills)


async def _all(jobs: List[Awaitable[None]]) -> None:
    await asyncio.gather(*jobs)


async def _dock_joins(fleet: Fleet, load: Load, works: int, rate_hz: float, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await fleet.admit("dock")
    await load.run("dock", works, rate_hz)


async def _kill_and_restart(fleet: Fleet, view: View, after_s: float, kills: List[Dict[str, Any]]) -> None:
    heads = {source.device for source in fleet.sources}
    spare = [device for device in fleet.devices if device not in heads]
    if not spare:
        view.say(f"no device is killed: all {len(fleet.devices)} are heads of sources")
        return
    victim = spare[0]
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
