"""kill -9 of any one process, at a random moment, under load: nothing is lost, nothing is answered twice.

    python -m benchmarks.chaos --seeds 20 [--first 1] [--works 60] [--shape mesh|chain|broker]

The seed chooses the victim (a device, a head, the controller, the broker with and without persistence), the moment,
and how long it stays away. Real processes, real broker, real inference; only the pad to a slow board's time is short,
so that a seed takes seconds. ``--shape``: every pair has a link; or each device only the next, so that most tensors
travel over others; or all tensors travel over the broker. A failed seed keeps its logs and can be run again by its
number.
"""

import argparse
import asyncio
import logging
import random
import sys
import time
from typing import List, NamedTuple

from pamdi.client.broker_config import BrokerConfig
from pamdi.core.errors import PamdiError
from pamdi.demo.fleet import Fleet, Options
from pamdi.demo.load import Digits, Load
from pamdi.demo.witness import Witness

UNIT_S = 0.008
AFTERWARDS_S = 0.5  # for what a process that came back may still have to say


class Trial(NamedTuple):
    """What one seed does."""

    seed: int
    victim: str
    persistence: bool
    after_s: float
    down_s: float


def trial_of(seed: int, span_s: float) -> Trial:
    """Kinds of victims take turns, so that any few seeds in a row cover several; the rest is drawn from the seed."""
    drawn = random.Random(seed)
    kind = ("device", "head", "broker", "controller", "broker-persistent")[seed % 5]
    victim = {"device": drawn.choice(["d2", "d3", "d4"]), "head": drawn.choice(["d0", "d1"])}.get(
        kind, kind.split("-", maxsplit=1)[0]
    )
    return Trial(seed, victim, kind == "broker-persistent", drawn.uniform(0.1, 0.9) * span_s, drawn.uniform(0.3, 2.0))


async def run_trial(trial: Trial, works: int, digits: Digits, shape: str) -> str:
    """Run one seed. Returns what went wrong, or nothing."""
    options = Options(
        unit_s=UNIT_S, link_rate_bytes_per_s=12_500_000.0, persistence=trial.persistence, chain=shape == "chain",
        data_plane="mqtt" if shape == "broker" else "link",
    )  # fmt: skip
    fleet = Fleet(options)
    async with fleet, Witness(BrokerConfig(fleet.url)) as witness:
        load = Load(fleet.url, digits, trial.seed, f"seed{trial.seed}")
        rate = [fleet.rate_hz(source) for source in fleet.sources[:2]]
        jobs = [load.run("gate", works, rate[0]), load.run("yard", works, rate[1]), _kill(fleet, trial)]
        await asyncio.gather(*jobs)
        await fleet.ready()  # the fleet is whole again: nobody has ended on its own, and every segment is in its place
        await asyncio.sleep(AFTERWARDS_S)
        problems = _problems(load, witness, works)
        if trial.victim != "broker" and len(witness.ends) != 2 * works:  # else "duplicated 0" would say little
            problems.append(f"the witness heard {len(witness.ends)} of {2 * works} ends")
        if problems:
            raise Broken("; ".join(problems), str(fleet.folder))
        outcomes = [outcome for ends in load.outcomes.values() for outcome in ends]
        resent = sum(o.retried > 0 or o.replayed > 0 for o in outcomes)
        again = sum(witness.redelivered.values())
        slowest = max(o.ended_at - o.submitted_at for o in outcomes if o.ended_at is not None)
        return f"{resent} works resent, {again} answers said again, slowest {slowest:.2f} s"


class Broken(Exception):
    """A promise did not hold."""

    def __init__(self, what: str, folder: str) -> None:
        super().__init__(f"{what} (logs in {folder})")


def _problems(load: Load, witness: Witness, works: int) -> List[str]:
    """Duplicates as a witness saw them, who heard more than those who asked: they stop listening with their answer."""
    problems = []
    for source in ("gate", "yard"):
        ends = load.outcomes[source]
        lost = sum(o.status == "" for o in ends)
        other = [f"{o.status} {o.reason}" for o in ends if o.status not in ("answered", "")]
        inexact = sum(o.status == "answered" and not o.exact for o in ends)
        duplicated = max(witness.duplicated.get(source, 0), load.duplicated[source])
        if lost or other or inexact or duplicated or len(ends) != works:
            problems.append(
                f"{source}: lost {lost}, duplicated {duplicated}, inexact {inexact}, ended otherwise {other[:3]}"
            )
    return problems


async def _kill(fleet: Fleet, trial: Trial) -> None:
    await asyncio.sleep(trial.after_s)
    fleet.kill(trial.victim)
    await asyncio.sleep(trial.down_s)
    fleet.start(trial.victim)


async def main(seeds: List[int], works: int, shape: str) -> int:
    logging.getLogger("mqtt").setLevel(logging.CRITICAL)  # the library complains of the broker we kill
    digits = Digits()
    failed = 0
    for seed in seeds:
        span_s = works / 0.4 / 5 * 8 * UNIT_S
        trial = trial_of(seed, span_s)
        persistence = " with persistence" if trial.persistence else ""
        what = f"seed {seed}: {trial.victim}{persistence} killed at {trial.after_s:.2f} s for {trial.down_s:.2f} s"
        began = time.monotonic()
        try:
            said = await run_trial(trial, works, digits, shape)
            print(f"{what}: lost 0, duplicated 0; {said} [{time.monotonic() - began:.0f} s]", flush=True)
        except (Broken, PamdiError) as error:
            failed += 1
            print(f"{what}: FAILED: {error}", flush=True)
    print(f"{len(seeds) - failed} of {len(seeds)} seeds held")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--works", type=int, default=60)
    parser.add_argument("--shape", choices=("mesh", "chain", "broker"), default="mesh")
    arguments = parser.parse_args()
    seeds = list(range(arguments.first, arguments.first + arguments.seeds))
    sys.exit(asyncio.run(main(seeds, arguments.works, arguments.shape)))
