"""However many documents there are, each device is told its newest, and nothing else has to wait for all of them."""

import asyncio
import functools
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import msgspec
import pytest

from pamdi.client import mqtt
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.loops import end
from pamdi.client.mqtt import Connection
from pamdi.controller import outbox
from pamdi.controller.outbox import Outbox
from pamdi.core.allocation import DeviceAllocation
from tests.brokers import have_mosquitto, running, start_mosquitto

WAIT_S = 60.0


class Line:
    """A connection with room for ``room`` messages. ``said``: device and epoch."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.said: List[Tuple[str, int]] = []
        self.done: List[Callable[[bool], None]] = []
        self.log: List[str] = []
        self.outbox = Outbox(self.publish, self.log.append)

    def publish(self, id: str, payload: bytes, done: Callable[[bool], None]) -> bool:
        if len(self.done) >= self.room:
            return False
        self.said.append((id, msgspec.json.decode(payload)["epoch"]))
        self.done.append(done)
        return True

    def acknowledge(self, accepted: bool = True) -> None:
        self.done.pop(0)(accepted)


def documents(epoch: int, *ids: str) -> Dict[str, DeviceAllocation]:
    return {id: DeviceAllocation(epoch) for id in ids}


@pytest.fixture
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "WINDOW_BYTES_MAX", 2 * len(msgspec.json.encode(DeviceAllocation(1))))


def test_a_few_documents_go_at_once() -> None:
    line = Line()
    line.outbox.tell(documents(1, "a", "b", "c"))
    assert line.said == [("a", 1), ("b", 1), ("c", 1)] and line.outbox.waiting() == 0


@pytest.mark.usefixtures("two_at_once")
def test_of_many_a_window_goes_and_each_that_is_acknowledged_makes_room_for_the_next() -> None:
    line = Line()
    line.outbox.tell(documents(1, "a", "b", "c", "d"))
    assert line.said == [("a", 1), ("b", 1)] and line.outbox.waiting() == 2
    line.acknowledge()
    assert line.said == [("a", 1), ("b", 1), ("c", 1)]
    line.acknowledge()
    line.acknowledge()
    assert line.said[3:] == [("d", 1)] and line.log == []


@pytest.mark.usefixtures("two_at_once")
def test_who_waits_is_told_the_newest_document_only() -> None:
    line = Line()
    line.outbox.tell(documents(1, "a", "b", "c", "d"))
    line.outbox.tell(documents(2, "a", "c"))
    while line.done:
        line.acknowledge()
    assert line.said == [("a", 1), ("b", 1), ("c", 2), ("d", 1), ("a", 2)]


@pytest.mark.usefixtures("two_at_once")
def test_a_new_connection_is_told_everything_and_acknowledgements_of_the_old_one_do_not_count() -> None:
    line = Line()
    line.outbox.tell(documents(1, "a", "b", "c"))
    late = list(line.done)
    line.said.clear()
    line.done.clear()
    line.outbox.again(documents(2, "a", "b", "c"))
    for done in late:
        done(True)
    assert line.said == [("a", 2), ("b", 2)]
    line.acknowledge()
    assert line.said == [("a", 2), ("b", 2), ("c", 2)]


def test_a_full_queue_is_one_line_and_loses_nothing() -> None:
    line = Line(room=1)
    line.outbox.tell(documents(1, "a", "b", "c"))
    line.outbox.go_on()
    assert line.said == [("a", 1)]
    assert line.log == [
        "the queue to the broker is full: 2 devices' documents wait here until it has room; look at the broker and the "
        "network"
    ]
    for _ in range(3):
        line.acknowledge()
        line.outbox.go_on()
    assert line.said == [("a", 1), ("b", 1), ("c", 1)]


def test_what_the_broker_has_refused_is_tried_again_with_the_next_that_are_told() -> None:
    line = Line()
    line.outbox.tell(documents(1, "a", "b"))
    line.acknowledge(accepted=False)
    line.acknowledge()
    line.outbox.go_on()
    assert line.said == [("a", 1), ("b", 1)]
    line.outbox.tell(documents(2, "b"))
    assert line.said[2:] == [("a", 1), ("b", 2)]


@pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")
async def test_epochs_that_exceed_the_queue_while_the_broker_is_away_are_all_told_and_so_is_what_comes_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred documents of 10 kB, twice, on a queue of 1.5 MB."""
    monkeypatch.setattr(mqtt, "QUEUE_BYTES_MAX", 1_500_000)
    monkeypatch.setattr(outbox, "WINDOW_BYTES_MAX", 100_000)
    heard: Dict[str, int] = {}
    ids = [f"d{n}" for n in range(100)]
    epochs = [{id: DeviceAllocation(epoch, policy="x" * 10_000) for id in ids} for epoch in (1, 2)]

    def hear(topic: str, payload: bytes, retained: bool) -> None:
        epoch = msgspec.json.decode(payload)["epoch"]
        assert epoch >= heard.get(topic, 0), "an older one has followed a newer one"
        heard[topic] = epoch

    def publish(id: str, payload: bytes, done: Callable[[bool], None]) -> bool:
        return speaker.publish(f"set/{id}", payload, 1, True, functools.partial(done, True))

    def connected() -> None:
        speaker.publish("state", b'{"epoch": 2}', 1, True)
        told.again(epochs[1])

    with running(start_mosquitto(tmp_path)) as broker:
        broker.kill()
        speaker = Connection(BrokerConfig(broker.url), "speaker", lambda *_: None, connected)
        listener = Connection(BrokerConfig(broker.url), "listener", hear)
        listener.subscribe("#")
        told = Outbox(publish, lambda line: None)
        for documents in epochs:
            told.tell(documents)
        tasks = [asyncio.ensure_future(connection.run()) for connection in (speaker, listener)]
        try:
            broker.start()
            deadline = asyncio.get_running_loop().time() + WAIT_S
            while len(heard) < 101 or set(heard.values()) != {2}:
                assert asyncio.get_running_loop().time() < deadline, sorted(heard.items())
                await asyncio.sleep(0.02)
        finally:
            await end(tasks)
    assert speaker.overflows == 0
