"""A tunnel looks like a link: what it does not deliver, it goes down for. Its carrier may do anything."""

import random
from typing import Any, Dict, List, Tuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pamdi.core import messages as ms
from pamdi.core.errors import BadInput
from pamdi.core.events import LinkDown, LinkUp, Received
from pamdi.core.work import Key, Work
from pamdi.daemon.envelope import Envelope, pack, unpack
from pamdi.daemon.relay import Relay
from pamdi.daemon.tunnel import HELLO_EVERY_S, SILENT_S_MAX, Tunnels, Way

KEY = Key("gate", "w", 0, 0, 1)


class Pretend:
    """Two ends and what lies between them; ``deliver`` hands over, a test may drop, repeat and reorder before."""

    def __init__(self) -> None:
        self.now = 0.0
        self.between: List[Tuple[str, Envelope, bytes]] = []
        self.works = True
        self.ends: Dict[str, Tunnels] = {}
        self.events: Dict[str, List[Any]] = {"a": [], "b": []}
        self._session = 100
        for id in ("a", "b"):
            self.born(id, 1)

    def born(self, id: str, instance: int) -> None:
        self.ends[id] = Tunnels(id, instance, self.events[id].append, lambda: self.now, self.session)
        self.ends[id].set_targets({"b" if id == "a" else "a": Way(("b" if id == "a" else "a",), self.carry)})

    def session(self) -> int:
        self._session += 1
        return self._session

    def carry(self, envelope: Envelope, body: Tuple[Any, ...], urgency: float) -> bool:
        if self.works:
            self.between.append((envelope.target, envelope, b"".join(body)))
        return self.works

    def deliver(self, index: int = 0) -> None:
        to, envelope, body = self.between.pop(index)
        self.ends[to].received(envelope, memoryview(body), 0.01)

    def settle(self) -> None:
        for _ in range(1000):
            if not self.between:
                return
            self.deliver()
        raise AssertionError("they talk for ever")

    def pass_s(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += HELLO_EVERY_S / 2
            for end in self.ends.values():
                end.tick()
            self.settle()


def up() -> Pretend:
    world = Pretend()
    world.settle()
    assert world.events == {"a": [LinkUp("b", 1)], "b": [LinkUp("a", 1)]}
    return world


def test_both_ends_come_up_after_three_envelopes_each_at_most() -> None:
    up()


def test_messages_and_tensors_arrive_as_they_were_sent() -> None:
    world = up()
    payload = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    message = ms.Tensor(Work(KEY, "m", "a", 1.0, 0.0))
    assert world.ends["a"].send("b", message, payload, 1.0)
    world.settle()
    came = world.events["b"][-1]
    assert isinstance(came, Received) and came.peer == "a" and came.nbytes == 24
    assert np.array_equal(came.payload["x"], payload["x"]) and came.transit_s == pytest.approx(0.01)


def test_silence_takes_it_down_and_a_word_brings_it_up_again() -> None:
    world = up()
    world.works = False
    world.pass_s(SILENT_S_MAX + 1)
    assert world.events["a"][-1] == LinkDown("b") and world.events["b"][-1] == LinkDown("a")
    assert not world.ends["a"].send("b", ms.Taken(KEY), None, 1.0)
    world.works = True
    world.pass_s(1.0)
    assert world.events["a"][-1] == LinkUp("b", 1) and world.events["b"][-1] == LinkUp("a", 1)


def test_who_was_held_up_itself_calls_nobody_silent() -> None:
    world = up()
    for _ in range(3):
        world.pass_s(1.0)
        world.now += 2 * SILENT_S_MAX
    world.pass_s(1.0)
    assert world.events == {"a": [LinkUp("b", 1)], "b": [LinkUp("a", 1)]}


def test_a_quiet_tunnel_stays_up() -> None:
    world = up()
    world.pass_s(60.0)
    assert len(world.events["a"]) == len(world.events["b"]) == 1


def test_word_of_a_loss_takes_both_ends_down_and_up_again() -> None:
    world = up()
    world.ends["a"].send("b", ms.Taken(KEY), None, 1.0)
    world.between.clear()  # a relay died with it
    world.ends["a"].lost("b", "d1 is out of reach")
    world.settle()
    assert world.events["a"] == [LinkUp("b", 1), LinkDown("b"), LinkUp("b", 1)]
    assert world.events["b"] == [LinkUp("a", 1), LinkDown("a"), LinkUp("a", 1)]


def test_what_an_earlier_session_sent_is_not_delivered() -> None:
    world = up()
    world.ends["a"].send("b", ms.Taken(KEY), None, 1.0)
    late = world.between.pop()
    world.ends["a"].lost("b", "test")
    world.settle()
    world.between.append(late)
    world.settle()
    assert not any(isinstance(event, Received) for event in world.events["b"])


def test_another_life_of_the_other_end_is_noticed() -> None:
    world = up()
    world.born("b", 2)
    world.settle()
    assert world.events["a"] == [LinkUp("b", 1), LinkDown("b"), LinkUp("b", 2)]


def test_a_target_that_is_no_longer_wanted_goes_down_once() -> None:
    world = up()
    world.ends["a"].set_targets({})
    assert world.events["a"] == [LinkUp("b", 1), LinkDown("b")]
    assert not world.ends["a"].has("b")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_over_a_carrier_that_loses_repeats_and_reorders_nothing_crosses_sessions_and_it_ends_up(seed: int) -> None:
    """Every message that arrives was sent in the session that its receiver is in; ups and downs alternate."""
    world, dice = Pretend(), random.Random(seed)
    sessions: Dict[int, Tuple[int, int]] = {}
    for step in range(120):
        what, me = dice.random(), dice.choice("ab")
        other = "b" if me == "a" else "a"
        if what < 0.5 and world.between:
            world.deliver(dice.randrange(len(world.between)))
        elif what < 0.6 and world.between:
            world.between.pop(dice.randrange(len(world.between)))
        elif what < 0.65 and world.between:
            world.between.append(dice.choice(world.between))
        elif what < 0.8:
            ours = world.ends[me]._ends[other]
            sessions[step] = (ours.session, ours.theirs)
            world.ends[me].send(other, ms.Taken(replace(KEY, step=step)), None, 1.0)
        elif what < 0.85:
            world.born(me, 2 + step)
            world.events[me].clear()
        elif what < 0.95:
            world.now += HELLO_EVERY_S
            world.ends[me].tick()
        else:
            world.ends[me].lost(other, "test")
        for id, to in (("a", "b"), ("b", "a")):
            end = world.ends[id]._ends[to]
            for event in world.events[id][-1:]:
                if isinstance(event, Received) and isinstance(event.message, ms.Taken):
                    assert sessions[event.message.key.step] == (end.theirs, end.session)
    world.settle()
    world.pass_s(2 * SILENT_S_MAX)
    for id, other in (("a", "b"), ("b", "a")):
        changes = [type(event) for event in world.events[id] if not isinstance(event, Received)]
        assert changes == [LinkUp, LinkDown] * (len(changes) // 2) + [LinkUp]
        assert world.ends[id].send(other, ms.Taken(KEY), None, 1.0)
        world.settle()
        assert isinstance(world.events[other][-1], Received)


class Line:
    """A relay in the middle, and what it put on its links."""

    def __init__(self, works: bool = True) -> None:
        self.works = works
        self.sent: List[Tuple[str, Envelope, bytes]] = []
        self.relay = Relay("n", self._send_on)

    def _send_on(self, neighbour: str, envelope: Envelope, body: Tuple[Any, ...]) -> bool:
        if self.works or neighbour == "a":
            self.sent.append((neighbour, envelope, b"".join(body)))
            return True
        return False


LETTER = Envelope(("n", "x", "b"), ("a",), 1, 7, 8, 10.0, 0.5, b"header")


def test_a_relay_hands_on_unopened_and_adds_the_time() -> None:
    line = Line()
    line.relay.forward(LETTER, memoryview(b"body"), 0.25)
    ((to, on, body),) = line.sent
    assert (to, on.way, on.behind, body) == ("x", ("x", "b"), ("a", "n"), b"body")
    assert on.waited_s == 0.75 and on.header == b"header" and on.session == 7


def test_what_cannot_go_on_is_told_to_its_sender() -> None:
    line = Line(works=False)
    line.relay.forward(LETTER, memoryview(b"body"), 0.0)
    ((to, notice, _),) = line.sent
    assert to == "a" and notice.dropped and notice.way == ("a",) and notice.sender == "b"


def test_when_a_link_fails_those_who_used_it_are_told_once() -> None:
    line = Line()
    line.relay.forward(LETTER, memoryview(b""), 0.0)
    line.relay.forward(LETTER, memoryview(b""), 0.0)
    line.sent.clear()
    line.relay.link_down("x")
    line.relay.link_down("x")
    assert [(to, notice.dropped) for to, notice, _ in line.sent] == [("a", True)]


def test_a_lost_hello_is_told_to_nobody() -> None:
    """Else two ends whose middle is down would be told of every hello."""
    line = Line(works=False)
    line.relay.forward(Envelope(("n", "b"), ("a",), 1, 7, 8), memoryview(b""), 0.0)
    assert line.sent == []


@pytest.mark.parametrize(
    "way, behind, waited_s, urgency",
    [((), ("a",), 0.0, 1.0), (("b",), (), 0.0, 1.0), (("b",) * 17, ("a",), 0.0, 1.0), (("b",), ("a",), -1.0, 1.0),
     (("b",), ("a",), float("nan"), 1.0), (("b",), ("a",), 0.0, float("nan"))],
)  # fmt: skip
def test_an_envelope_that_cannot_be_is_refused(way: Any, behind: Any, waited_s: float, urgency: float) -> None:
    with pytest.raises(ValueError):
        Envelope(way, behind, waited_s=waited_s, urgency=urgency)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200), st.binary(max_size=4))
def test_what_the_broker_brings_is_an_envelope_or_bad_input(noise: bytes, at: int, patch: bytes) -> None:
    good = bytearray(pack(LETTER, (b"body",)))
    good[at : at + len(patch)] = patch
    for data in (noise, bytes(good)):
        try:
            envelope, body = unpack(data)
        except BadInput:
            continue
        assert 2 <= len(envelope.way) + len(envelope.behind) <= 16 and len(body) <= len(data)


def test_packing_and_unpacking_are_inverse() -> None:
    envelope, body = unpack(pack(LETTER, (b"bo", b"dy")))
    assert envelope == LETTER and bytes(body) == b"body"


def test_a_message_that_its_carrier_does_not_take_takes_the_tunnel_down() -> None:
    world = up()
    world.works = False
    assert not world.ends["a"].send("b", ms.Taken(KEY), None, 1.0)
    assert world.events["a"] == [LinkUp("b", 1), LinkDown("b")]
    world.works = True
    world.pass_s(2.0)
    assert world.events["a"][2:] == [LinkUp("b", 1)]
    assert world.events["b"] == [LinkUp("a", 1), LinkDown("a"), LinkUp("a", 1)]


def test_a_carrier_that_was_away_begins_its_own_tunnels_anew_and_no_others() -> None:
    world = up()
    world.ends["a"].lost_with(lambda envelope, body, urgency: True, "another carrier")
    assert world.events["a"] == [LinkUp("b", 1)]
    world.ends["a"].lost_with(world.carry, "the broker was away")
    world.settle()
    assert world.events == {
        "a": [LinkUp("b", 1), LinkDown("b"), LinkUp("b", 1)],
        "b": [LinkUp("a", 1), LinkDown("a"), LinkUp("a", 1)],
    }


def test_what_is_not_understood_is_counted_and_answered_once_a_session() -> None:
    world = up()
    end = world.ends["a"]._ends["b"]
    lines: List[str] = []
    world.ends["a"]._log = lines.append
    for _ in range(3):
        strange = msgspec.msgpack.encode({"type": "FromTheFuture"})
        envelope = Envelope(("b",), ("a",), 1, end.session, end.theirs, 1.0, 0.0, strange)
        world.ends["b"].received(envelope, memoryview(b""), 0.0)
    assert world.ends["b"].unknown == 3
    assert [msgspec.msgpack.decode(envelope.header)["type"] for _, envelope, _ in world.between] == ["Understood"]
    world.settle()
    assert lines == ["b could not read a message of this device: update the older of the two"]
    assert world.events == {"a": [LinkUp("b", 1)], "b": [LinkUp("a", 1)]}
