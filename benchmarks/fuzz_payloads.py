"""``make fuzz``: damaged payloads, first against the decoders, then against a daemon's own entry.

Each submission must end in a value or a BadInput, and in nothing else; and whatever comes on whatever topic, a daemon
(the real service, a real store, no broker) lives on and still admits a good work afterwards.

Repeatable by its seed. The first payload that ends otherwise is printed with its seed, and the exit status is 1.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import msgspec
import numpy as np
from tests.client.payload_mutations import MUTATIONS, mutated
from tests.daemon.running import MODEL, STORE

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.payloads import id_of, read_command, read_result, read_submission, write_submission
from pamdi.core.allocation import DeviceAllocation, ModelSpec, Neighbour, Resident, Route, RouteVisit, SourceSpec
from pamdi.core.errors import BadInput
from pamdi.daemon.config import BackendConfig, DaemonConfig, Listen
from pamdi.daemon.main import claim_of
from pamdi.daemon.service import Service
from pamdi.engines.manifest import read_manifest

LIFE_MESSAGES = 500
READERS = (read_submission, read_result, read_command)


def outcome_of(payload: bytes) -> str:
    """What became of it: "read", or the reason of the refusal. Whatever else is raised is a fault of ours."""
    id_of(payload)
    for reader in READERS[1:]:
        try:
            reader(payload)
        except BadInput:
            continue
    try:
        read_submission(payload)
    except BadInput as refusal:
        return refusal.reason.value
    return "read"


def fuzz(count: int, seed: int) -> "Counter[str]":
    """How ``count`` payloads ended."""
    outcomes: "Counter[str]" = Counter()
    for number in range(count):
        payload = mutated(random.Random(f"{seed}/{number}"))
        try:
            outcomes[outcome_of(payload)] += 1
        except Exception as error:
            print(f"seed {seed}, payload {number}: {type(error).__name__}: {error}\n{payload[:300]!r}", file=sys.stderr)
            raise
    return outcomes


def allocation(epoch: int, image: Tuple[str, str, Tuple[int, ...]]) -> DeviceAllocation:
    """A document that is right, with something in every field."""
    manifest = read_manifest(STORE / MODEL)
    visits = tuple(RouteVisit(s.first, s.stop, "d0") for s in manifest.segments)
    return DeviceAllocation(
        epoch,
        segments=tuple(Resident(MODEL, s.first, s.stop, s.sha256, 0.01, 1000) for s in manifest.segments),
        sources=(SourceSpec("gate", MODEL, "d0", gamma=10.0, age_s_max=5.0), SourceSpec("yard", MODEL, "d0")),
        models=(ModelSpec(MODEL, manifest.bytes, (image,)),),
        routes={"gate": (Route(1.0, 0.1, visits),)},
        neighbours=(Neighbour("d1", "127.0.0.1", 9, 1e6, 0.001), Neighbour("d2", "127.0.0.1", 9, via=("d1",))),
    )


def _damaged_document(chance: random.Random, document: Any) -> bytes:
    payload = msgspec.json.encode(document)
    for _ in range(chance.randint(1, 2)):
        payload = chance.choice(MUTATIONS)(payload, chance)
    return payload


def message_of(chance: random.Random, epoch: int, image: Tuple[str, str, Tuple[int, ...]]) -> Tuple[str, bytes]:
    """A topic that a daemon listens to, and something damaged on it."""
    kind = chance.choice(["submit", "submit", "cancel", "allocation", "allocation", "state", "alive", "frames"])
    if kind == "allocation":
        return "pamdi/v1/device/d0/allocation/set", _damaged_document(chance, allocation(epoch, image))
    if kind in ("submit", "cancel"):
        return f"pamdi/v1/source/gate/{kind}", mutated(chance)
    topics = {"state": "device/d1/state", "alive": "device/d0/alive/ask", "frames": "device/d0/frames/normal"}
    return f"pamdi/v1/{topics[kind]}", chance.choice(
        [mutated(chance), bytes(chance.choices(range(256), k=chance.randint(0, 60)))]
    )


async def one_life(numbers: range, seed: int, folder: Path) -> "Counter[str]":
    """How many messages a daemon took, by topic. Raises what it raised, or AssertionError when it admits no more."""
    manifest = read_manifest(STORE / MODEL)
    shape = tuple(size if isinstance(size, int) else -1 for size in manifest.boundaries[0][0].shape)
    image = (manifest.boundaries[0][0].name, "float32", shape)
    said: List[str] = []
    config = DaemonConfig(
        id="d0", type="test-board", store=str(STORE), memory_bytes=10**8, runtime_dir=str(folder / "run"),
        state_dir=str(folder / "state"), broker=BrokerConfig("mqtt://127.0.0.1:9"), listen=Listen("127.0.0.1", 0),
        backend=BackendConfig("stub"),
    )  # fmt: skip
    service = Service(config, said.append, claim_of(config))
    problems: List[Dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    running = asyncio.ensure_future(service.run())
    taken: "Counter[str]" = Counter()
    for number in numbers:
        topic, payload = message_of(random.Random(f"{seed}/daemon/{number}"), service.epoch + 1, image)
        try:
            service.heard(topic, payload, False)
            await asyncio.sleep(0)
            if problems or running.done():
                raise problems[0].get("exception") or RuntimeError(problems[0]["message"]) if problems else (
                    running.exception() or RuntimeError("the daemon ended"))  # fmt: skip
        except Exception as error:
            print(f"seed {seed}, message {number}: {type(error).__name__}: {error}\n{topic} {payload[:400]!r}",
                  file=sys.stderr)  # fmt: skip
            raise
        taken[topic.rsplit("/", 1)[1]] += 1
    await _still_admits(service, image)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return taken


def fuzz_a_daemon(count: int, seed: int) -> "Counter[str]":
    """Life by life: an epoch that was a lie would make a device deaf to later ones."""
    taken: "Counter[str]" = Counter()
    for first in range(0, count, LIFE_MESSAGES):
        with tempfile.TemporaryDirectory(prefix="pamdi-fuzz-") as folder:
            numbers = range(first, min(count, first + LIFE_MESSAGES))
            taken += asyncio.run(one_life(numbers, seed, Path(folder)))
    return taken


async def _still_admits(service: Service, image: Tuple[str, str, Tuple[int, ...]]) -> None:
    good = msgspec.json.encode(allocation(service.epoch + 1, image))
    service.heard("pamdi/v1/device/d0/allocation/set", good, False)
    before = service.counters["works_admitted"]
    array = np.zeros([1, *image[2][1:]], np.float32)
    until = time.monotonic() + 60.0
    while service.counters["works_admitted"] == before:
        service.heard("pamdi/v1/source/gate/submit", write_submission("afterwards", {image[0]: array}), False)
        await asyncio.sleep(0.05)
        assert time.monotonic() < until, "the daemon admits nothing any more"


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_payloads", description="damage submissions")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--daemon-count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        outcomes = fuzz(options.count, options.seed)
    except Exception:
        return 1
    began_daemon = time.monotonic()
    try:
        taken = fuzz_a_daemon(options.daemon_count, options.seed)
    except Exception:
        return 1
    ended = ", ".join(f"{outcome} {number}" for outcome, number in outcomes.most_common())
    print(f"{sum(outcomes.values())} payloads in {began_daemon - began:.0f} s, seed {options.seed}: {ended}")
    heard = ", ".join(f"{leaf} {number}" for leaf, number in taken.most_common())
    print(f"a daemon heard {sum(taken.values())} messages in {time.monotonic() - began_daemon:.0f} s ({heard}), lives "
          "and admits works")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
