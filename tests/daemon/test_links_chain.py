"""Three devices in a row, real sockets: the ends talk over the middle, which opens nothing."""

from typing import Optional

import numpy as np
import pytest

from pamdi.core import messages as ms
from pamdi.core.allocation import Neighbour
from pamdi.core.events import LinkDown, LinkUp
from pamdi.daemon import tunnel as tunnel_module
from pamdi.daemon.link import LinkOptions
from tests.brokers import free_port
from tests.daemon.test_links import KEY, End, close, tensor

FOR_EVER_S = 60.0


class Chain:
    """a - m - b."""

    def __init__(self, options: Optional[LinkOptions] = None) -> None:
        self.a, self.m, self.b = End("a", 1, options), End("m", 2, options), End("b", 3, options)

    async def start(self) -> "Chain":
        for end, port in ((self.a, 0), (self.m, free_port()), (self.b, 0)):  # m's is kept for its next life
            await end.links.listen("127.0.0.1", port)
        self.a.links.set_neighbours((self._at("b", self.b, "m"), self._at("m", self.m)))
        self.b.links.set_neighbours((self._at("a", self.a, "m"), self._at("m", self.m)))
        self.m.links.set_neighbours((self._at("a", self.a), self._at("b", self.b)))
        await self.a.until(lambda events: LinkUp("b", 3) in events)
        await self.b.until(lambda events: LinkUp("a", 1) in events)
        return self

    def _at(self, id: str, end: End, *via: str) -> Neighbour:
        return Neighbour(id, "127.0.0.1", end.links.port, via=via)

    async def close(self) -> None:
        await close(self.a, self.m, self.b)


async def test_the_ends_of_a_chain_hand_tensors_over_the_middle() -> None:
    chain = await Chain().start()
    message, payload = tensor(2.5, 100_000)
    assert chain.a.links.send("b", message, payload, 1.0)
    assert chain.b.links.send("a", ms.Taken(KEY))
    await chain.b.until(lambda events: any(getattr(e, "nbytes", 0) == 400_000 for e in events))
    await chain.a.until(lambda events: any(getattr(e, "message", None) == ms.Taken(KEY) for e in events))
    came = next(e for e in chain.b.events if getattr(e, "nbytes", 0) == 400_000)
    assert came.peer == "a" and np.array_equal(came.payload["x"], payload["x"])
    assert not any(getattr(e, "message", None) for e in chain.m.events)  # the middle has only carried it
    await chain.close()


async def test_on_every_link_of_the_way_the_urgent_goes_first() -> None:
    chain = await Chain(LinkOptions(rate_bytes_per_s=12_500_000.0)).start()
    for _ in range(4):
        chain.a.links.send("b", *tensor(1.0, 200_000), 1.0)
    chain.a.links.send("b", *tensor(10.0, 250), 10.0)
    await chain.b.until(lambda events: sum(e.__class__.__name__ == "Received" for e in events) == 5)
    tensors = [e for e in chain.b.events if e.__class__.__name__ == "Received"]
    assert float(tensors[0].payload["x"][0]) == 10.0
    await chain.close()


async def test_the_delay_of_every_link_is_counted() -> None:
    chain = await Chain(LinkOptions(delay_s=0.02)).start()
    chain.a.links.send("b", *tensor(1.0, 250), 1.0)
    await chain.b.until(lambda events: any(e.__class__.__name__ == "Received" for e in events))
    came = next(e for e in chain.b.events if e.__class__.__name__ == "Received")
    assert came.transit_s >= 0.04
    await chain.close()


async def test_when_the_middle_dies_both_ends_are_told_and_its_next_life_joins_them_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tunnel_module, "SILENT_S_MAX", 10 * FOR_EVER_S)  # silence tells nobody here
    chain = await Chain().start()
    port = chain.m.links.port
    await close(chain.m)
    await chain.a.until(lambda events: LinkDown("b") in events, within_s=FOR_EVER_S)
    await chain.b.until(lambda events: LinkDown("a") in events, within_s=FOR_EVER_S)
    again = End("m", 4)
    await again.links.listen("127.0.0.1", port)
    again.links.set_neighbours((chain._at("a", chain.a), chain._at("b", chain.b)))
    await chain.a.until(lambda events: events.count(LinkUp("b", 3)) == 2)
    chain.m = again
    await chain.close()


async def test_when_the_far_link_fails_the_near_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel_module, "SILENT_S_MAX", 10 * FOR_EVER_S)  # silence tells nobody here
    chain = await Chain().start()
    chain.a.links.send("b", ms.Taken(KEY))
    await chain.b.until(lambda events: any(getattr(e, "message", None) for e in events))
    await close(chain.b)
    await chain.a.until(lambda events: LinkDown("b") in events, within_s=FOR_EVER_S)
    await chain.close()


async def test_a_direct_link_goes_before_a_tunnel() -> None:
    chain = await Chain().start()
    chain.a.links.set_neighbours((chain._at("b", chain.b), chain._at("m", chain.m)))
    await chain.a.until(lambda events: events.count(LinkUp("b", 3)) == 2)
    await chain.b.until(lambda events: events.count(LinkUp("a", 1)) == 2)
    assert chain.a.links.send("b", ms.Taken(KEY))
    await chain.b.until(lambda events: any(getattr(e, "message", None) for e in events))
    about_b = [type(e) for e in chain.a.events if getattr(e, "peer", "") == "b"]
    assert about_b == [LinkUp, LinkDown, LinkUp]
    await chain.close()
