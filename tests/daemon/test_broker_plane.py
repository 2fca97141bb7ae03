"""Tensors over the broker: what is urgent has a topic and a connection of its own, at both ends."""

import asyncio
from typing import Any, Dict, List, Tuple

from pamdi.core.events import LinkDown, LinkUp
from pamdi.core.topics import Topics
from pamdi.daemon.broker_plane import BrokerPlane
from pamdi.daemon.envelope import Envelope, pack
from pamdi.daemon.tunnel import Tunnels, Way

Said = Tuple[str, str, str, int]  # the connection, what it was asked for, the topic, the QoS


class Lane:
    """A connection that keeps what it is asked for."""

    def __init__(self, name: str, said: List[Said]) -> None:
        self._name, self._said = name, said
        self.connected = asyncio.Event()
        self.connected.set()

    def subscribe(self, topic: str, qos: int = 1) -> None:
        self._said.append((self._name, "hears", topic, qos))

    def publish(self, topic: str, payload: bytes, qos: int) -> bool:
        self._said.append((self._name, "says", topic, qos))
        return True


class Stage:
    """The plane of ``a``, where 10 is urgent and 1 is not, with a tunnel to ``b`` over it."""

    def __init__(self) -> None:
        self.said: List[Said] = []
        self.events: List[Any] = []
        self.lanes: Dict[str, Lane] = {name: Lane(name, self.said) for name in ("normal", "urgent")}
        numbers = iter(range(100, 200))
        self.tunnels = Tunnels("a", 1, self.events.append, lambda: 0.0, numbers.__next__)
        normal, urgent = self.lanes["normal"], self.lanes["urgent"]
        self.plane = BrokerPlane("a", Topics("p"), normal, urgent, self.tunnels, lambda urgency: urgency > 1.0)  # type: ignore[arg-type]

    def carry(self, urgency: float, header: bytes = b"x") -> bool:
        return self.plane.carry(Envelope(("b",), ("a",), 1, 1, 1, urgency, header=header), (), urgency)


async def test_what_is_urgent_is_heard_on_a_connection_of_its_own_and_subscribed_once() -> None:
    stage = Stage()
    stage.plane.listen()
    stage.plane.listen()
    assert sorted(stage.said) == [
        ("normal", "hears", "p/device/a/frames/normal", 1), ("urgent", "hears", "p/device/a/frames/urgent", 1),
    ]  # fmt: skip


async def test_what_is_urgent_is_said_on_a_connection_of_its_own_and_a_mere_sign_of_life_need_not_arrive() -> None:
    stage = Stage()
    assert stage.carry(10.0) and stage.carry(1.0) and stage.carry(float("inf"), b"")
    assert stage.said == [
        ("urgent", "says", "p/device/b/frames/urgent", 1), ("normal", "says", "p/device/b/frames/normal", 1),
        ("urgent", "says", "p/device/b/frames/urgent", 0),
    ]  # fmt: skip


async def test_nothing_waits_for_a_broker_that_is_away() -> None:
    """It would be of an earlier session when it came."""
    stage = Stage()
    stage.lanes["urgent"].connected.clear()
    assert (stage.carry(10.0), stage.carry(1.0)) == (False, True)


async def test_a_broker_that_was_away_begins_its_tunnels_anew() -> None:
    stage = Stage()
    stage.tunnels.set_targets({"b": Way(("b",), stage.plane.carry)})
    stage.plane.received(pack(Envelope(("a",), ("b",), 2, 50, 100)))
    assert stage.events == [LinkUp("b", 2)]
    stage.plane.connected()
    assert stage.events == [LinkUp("b", 2), LinkDown("b")]


async def test_what_is_no_envelope_is_counted_and_what_is_for_others_is_not_ours() -> None:
    stage = Stage()
    stage.tunnels.set_targets({"b": Way(("b",), stage.plane.carry)})
    for payload in (b"", b"\xff" * 100, pack(Envelope(("c",), ("b",), 2, 50, 100))):
        stage.plane.received(payload)
    assert (stage.plane.unreadable, stage.events) == (2, [])
