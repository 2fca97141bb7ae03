"""Probes on real sockets: they are echoed, and whatever a work sends goes before what is left of them."""

import asyncio
import time
from typing import List, Tuple

from pamdi.core.events import Received
from pamdi.daemon.link import LinkOptions
from pamdi.daemon.probe import LARGE_BYTES_MAX, Probe
from tests.daemon.test_links import close, pair, tensor

BODY = memoryview(bytes(LARGE_BYTES_MAX))


async def test_a_work_that_comes_later_arrives_before_the_probe_that_was_on_its_way() -> None:
    a, b = await pair(LinkOptions(rate_bytes_per_s=4_000_000))  # the probe alone takes a quarter of a second
    order: List[str] = []
    done = asyncio.Event()

    def probed(peer: str, probe: Probe, now: float) -> None:
        order.extend(type(event).__name__ for event in b.events)
        order.append("probe")
        done.set()

    b.links.on_probe = probed
    assert a.links.send_probe("b", Probe(1, True), BODY)
    message, payload = tensor(1.0, 20_000)
    assert a.links.send("b", message, payload, urgency=1e-6)  # the least urgent work there can be
    await asyncio.wait_for(done.wait(), 60.0)
    assert order == ["LinkUp", "Received", "probe"]
    await close(a, b)


async def test_the_emulated_delay_holds_for_probes_both_ways_and_nobody_else_is_probed() -> None:
    a, b = await pair(LinkOptions(delay_s=0.05))
    echoes: List[Tuple[str, Probe]] = []
    done = asyncio.Event()

    def answer(peer: str, probe: Probe, now: float) -> None:
        b.links.send_probe(peer, Probe(probe.round, probe.large, True), BODY[:0])

    def heard(peer: str, probe: Probe, now: float) -> None:
        echoes.append((peer, probe))
        done.set()

    b.links.on_probe, a.links.on_probe = answer, heard
    began = time.monotonic()
    assert a.links.send_probe("b", Probe(3), BODY[:64]) and not a.links.send_probe("nobody", Probe(3), BODY[:64])
    await asyncio.wait_for(done.wait(), 60.0)
    assert echoes == [("b", Probe(3, False, True))] and time.monotonic() - began >= 0.095
    assert not [event for event in [*a.events, *b.events] if isinstance(event, Received)]
    await close(a, b)
