"""``pamdi calibrate links``: what the daemons have found out about their links, as [[link]] rows.

The devices measure (``daemon/probe.py``) and publish it with their statistics; here it is only waited for and written
down. A row is one direction, because a link's two directions may differ: with ``one_way = true`` it goes into
fleet.toml or controller.toml as it stands.
"""

import asyncio
import contextlib
import uuid
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import msgspec

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.device_stats import DeviceStats, Probed
from pamdi.client.loops import end, within
from pamdi.client.mqtt import Connection
from pamdi.core.errors import Unreachable
from pamdi.core.topics import Topics

CONNECT_S = 5.0
SETTLE_S = 1.5  # for retained states to come in
LOOK_S = 0.2


Heard = Dict[str, Dict[str, Probed]]


class LinkRow(NamedTuple):
    """``idle``: measured while nothing else was on the link; else it is what was left beside the works."""

    from_: str
    to: str
    rate_bytes_per_s: float
    delay_s: float
    idle: bool
    beside_works_bytes_per_s: Optional[float]
    rounds: int

    def sentence(self) -> str:
        beside = self.beside_works_bytes_per_s
        loaded = f"; beside works {beside / 1e6:.3f} MB/s" if beside is not None and self.idle else ""
        state = "idle" if self.idle else "only beside works, a lower bound"
        return (
            f"{self.from_} -> {self.to}: {self.rate_bytes_per_s / 1e6:.3f} MB/s ({state}), "
            f"{self.delay_s * 1e3:.2f} ms, {self.rounds} rounds{loaded}"
        )


def heard_stats(heard: Heard, device: str, payload: bytes) -> None:
    """Keep what ``device`` says. What cannot be read is left aside: it comes from the network."""
    with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        heard[device] = dict(msgspec.json.decode(payload, type=DeviceStats).probes)


def enough(heard: Heard, online: List[str], samples: int) -> bool:
    """Whether every online device has told of at least one link, and of each at least ``samples`` rounds."""
    return bool(online) and all(
        heard.get(device) and all(probed.rounds >= samples for probed in heard[device].values()) for device in online
    )


def rows(heard: Heard) -> List[LinkRow]:
    """One row a direction, of which something is known."""
    found: List[LinkRow] = []
    for device in sorted(heard):
        for peer, probed in sorted(heard[device].items()):
            beside = probed.beside_works_bytes_per_s
            rate = probed.rate_bytes_per_s or beside
            if rate and probed.delay_s is not None and rate > 0 and probed.delay_s >= 0:
                idle = bool(probed.rate_bytes_per_s)
                found.append(LinkRow(device, peer, rate, probed.delay_s, idle, beside, probed.rounds))
    return found


def to_text(found: List[LinkRow], date: str) -> str:
    """TOML: [[link]] rows and nothing else, so that they can be pasted."""
    lines = [
        f"# Links as the daemons measured them, {date}; made by `pamdi calibrate links`. Bytes per second, seconds."
    ]
    for row in found:
        lines += [
            "", f"# {row.sentence()}", "[[link]]", f'from = "{row.from_}"', f'to = "{row.to}"',
            f"rate_bytes_per_s = {row.rate_bytes_per_s:.0f}", f"delay_s = {row.delay_s:.6f}", "one_way = true",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


async def collect(broker: BrokerConfig, samples: int, seconds_max: float, say: Callable[[str], None]) -> Heard:
    """Listen until every online device has told enough, at most ``seconds_max``. Raises Unreachable."""
    topics = Topics(broker.prefix)
    heard: Heard = {}
    states: Dict[str, bytes] = {}

    def message(topic: str, payload: bytes, retained: bool) -> None:
        parsed = topics.parse(topic)
        if parsed is not None and parsed.leaf == "stats" and not retained:  # what is retained may be an older life's
            heard_stats(heard, parsed.id, payload)
            links = {peer: probed.rounds for peer, probed in heard.get(parsed.id, {}).items()}
            say(f"{parsed.id}: rounds so far {links or 'none'}")
        elif parsed is not None and parsed.leaf == "state":
            states[parsed.id] = payload

    mqtt = Connection(broker, f"pamdi-calibrate-{uuid.uuid4().hex[:8]}", message)
    for leaf in ("stats", "state"):
        mqtt.subscribe(topics.device("+", leaf))
    task: "asyncio.Task[None]" = asyncio.get_running_loop().create_task(mqtt.run())
    try:
        await within(CONNECT_S, mqtt.connected.wait())
    except asyncio.TimeoutError as error:
        raise Unreachable(f"broker {broker.url} did not answer within {CONNECT_S:g} s: check --broker") from error
    else:
        await _until(
            lambda: enough(heard, [id for id, state in states.items() if state == b"online"], samples), seconds_max
        )
    finally:
        await end([task])
    return heard


async def _until(done: Callable[[], Any], seconds_max: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds_max
    await asyncio.sleep(min(SETTLE_S, seconds_max))
    while not done() and loop.time() < until:
        await asyncio.sleep(LOOK_S)
