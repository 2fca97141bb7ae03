"""The client keeps a work until its answer, and hands each id to the application once."""

import asyncio
import gc
import re
import socket
import struct
from pathlib import Path
from typing import Any, List, Tuple

import msgspec
import numpy as np
import pytest

from pamdi.client import client as client_module
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.client import Client
from pamdi.client.mqtt import Connection
from pamdi.client.payloads import Submission, read_submission, tensors_json
from pamdi.core.errors import BadInput, ConfigError, Unreachable
from tests.brokers import RunningBroker, have_mosquitto, running, start_mosquitto
from tests.client.test_mqtt import kept, until

X = {"x": np.ones((1, 2), "float32")}


class Head:
    """Plays the head of source ``gate``: says what the test tells it to, at each submission."""

    def __init__(self, broker: RunningBroker, *script: str) -> None:
        self.heard: List[Submission] = []
        self._script = list(script)
        self.connection = Connection(BrokerConfig(broker.url), "head", self._submitted)
        self.connection.subscribe("pamdi/v1/source/gate/submit")

    def _submitted(self, topic: str, payload: bytes, retained: bool) -> None:
        submission = read_submission(payload)
        self.heard.append(submission)
        for line in (self._script.pop(0) if self._script else "answered").split():
            self.say(submission.id, line)

    def say(self, id: str, line: str, outputs: Any = None) -> None:
        """``line``: a status, or status:reason; "silence" says nothing."""
        if line == "silence":
            return
        status, _, reason = line.partition(":")
        document = {"id": id, "status": status, "reason": reason, "retry_after_s": 0.05, "latency_s": 0.1}
        if status == "answered":
            document["outputs"] = tensors_json(outputs or {"y": np.arange(3, dtype="float32")})
        self.connection.publish("pamdi/v1/source/gate/result", msgspec.json.encode(document))


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow broker and machine are, nothing is submitted twice."""
    monkeypatch.setattr(client_module, "ADMIT_S", 3600.0)
    monkeypatch.setattr(client_module, "CHECK_S", 3600.0)


@pytest.fixture
def impatient(_patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ADMIT_S", 0.2)
    monkeypatch.setattr(client_module, "CHECK_S", 0.2)


async def submitted(broker: RunningBroker, *script: str, patience_s: float = 0.0) -> Tuple[Any, Head, Client]:
    """One work, against a head that follows ``script``."""
    head = Head(broker, *script)
    async with kept(head.connection), Client(BrokerConfig(broker.url), retry_refused_s=patience_s) as client:
        await until(head.connection.connected.is_set)
        answer = await client.submit("gate", X, id="w1", gamma=3.0, timeout_s=60.0)
    return answer, head, client


async def test_a_work_comes_back_with_its_answer(broker: RunningBroker) -> None:
    answer, head, client = await submitted(broker, "admitted answered")
    assert (answer.id, answer.status, answer.latency_s) == ("w1", "answered", 0.1)
    assert answer.outputs["y"].tolist() == [0.0, 1.0, 2.0]
    assert (head.heard[0].id, head.heard[0].gamma) == ("w1", 3.0)
    assert (client.duplicated, client.redelivered) == (0, 0)


@pytest.mark.usefixtures("impatient")
async def test_a_work_that_nobody_admits_is_submitted_again_the_same(broker: RunningBroker) -> None:
    answer, head, _ = await submitted(broker, "silence", "silence", "answered")
    assert answer.status == "answered" and len(head.heard) >= 3  # more, if the answer took its time
    assert {(heard.id, heard.digest) for heard in head.heard} == {("w1", head.heard[0].digest)}


async def test_the_answer_to_a_cancellation_that_came_before_the_work_does_not_end_the_work(
    broker: RunningBroker,
) -> None:
    answer, _, _ = await submitted(broker, "refused:unknown_work admitted answered")
    assert answer.status == "answered"


@pytest.mark.usefixtures("impatient")
async def test_an_answer_that_was_lost_is_asked_for(broker: RunningBroker) -> None:
    answer, head, _ = await submitted(broker, "admitted", "answered")
    assert answer.status == "answered"
    assert len(head.heard) >= 2


@pytest.mark.parametrize("ending", ["refused:overloaded", "refused:bad_input", "failed:deadline"])
async def test_another_end_is_handed_over_with_its_reason(broker: RunningBroker, ending: str) -> None:
    answer, head, _ = await submitted(broker, ending)
    assert f"{answer.status}:{answer.reason}" == ending
    assert len(head.heard) == 1


async def test_a_passing_refusal_is_tried_again_when_asked(broker: RunningBroker) -> None:
    answer, head, _ = await submitted(broker, "refused:overloaded", "refused:overloaded", "answered", patience_s=60.0)
    assert answer.status == "answered"
    assert len(head.heard) == 3


async def test_patience_with_refusals_ends(broker: RunningBroker) -> None:
    """A tenth of a second or more is between two tries. On a machine that sleeps, the first refusal may come too late
    for a second try: then with more patience."""
    for patience_s in (0.3, 3.0, 30.0):
        answer, head, _ = await submitted(broker, *["refused:overloaded"] * 1000, patience_s=patience_s)
        assert answer.reason == "overloaded" and len(head.heard) <= 10 * patience_s + 4
        if len(head.heard) >= 2:
            break
    assert len(head.heard) >= 2


async def test_a_refusal_that_will_not_pass_is_not_tried_again(broker: RunningBroker) -> None:
    answer, head, _ = await submitted(broker, "refused:bad_input", patience_s=10.0)
    assert answer.reason == "bad_input"
    assert len(head.heard) == 1


@pytest.mark.usefixtures("impatient")  # the head may come back later than we do
async def test_works_survive_the_brokers_death(broker: RunningBroker) -> None:
    head = Head(broker, *["admitted"] * 20)
    async with kept(head.connection), Client(BrokerConfig(broker.url)) as client:
        await until(head.connection.connected.is_set)
        works = [asyncio.ensure_future(client.submit("gate", X, id=f"w{n}", timeout_s=60.0)) for n in range(20)]
        await until(lambda: len(head.heard) >= 20)
        await asyncio.get_running_loop().run_in_executor(None, broker.restart)
        answers = await asyncio.gather(*works)
    assert [answer.status for answer in answers] == ["answered"] * 20
    assert client.duplicated == 0


async def test_the_same_answer_again_is_told_from_another_one(broker: RunningBroker) -> None:
    head = Head(broker)
    async with kept(head.connection), Client(BrokerConfig(broker.url)) as client:
        await until(head.connection.connected.is_set)
        await client.submit("gate", X, id="w1", timeout_s=60.0)
        head.say("w1", "answered")
        head.say("w1", "answered", {"y": np.zeros(3, "float32")})
        await until(lambda: client.duplicated)
        assert (client.redelivered, client.duplicated) == (1, 1)


async def test_rubbish_on_the_result_topic_is_counted_and_harmless(broker: RunningBroker) -> None:
    head = Head(broker, "silence")
    async with kept(head.connection), Client(BrokerConfig(broker.url)) as client:
        await until(head.connection.connected.is_set)
        work = asyncio.ensure_future(client.submit("gate", X, timeout_s=60.0))
        await until(lambda: head.heard)
        for payload in (b"\xff", b"[" * 10_000, b'{"id":"w1"}'):
            head.connection.publish("pamdi/v1/source/gate/result", payload)
        head.say(head.heard[0].id, "answered")
        assert (await work).status == "answered"
        assert client.unreadable == 3


async def test_an_answer_whose_outputs_cannot_be_read_is_none_and_a_later_one_counts(broker: RunningBroker) -> None:
    head = Head(broker, "admitted", *["silence"] * 1000)
    async with kept(head.connection), Client(BrokerConfig(broker.url)) as client:
        await until(head.connection.connected.is_set)
        work = asyncio.ensure_future(client.submit("gate", X, id="w1", timeout_s=60.0))
        await until(lambda: head.heard)
        broken = {"id": "w1", "status": "answered", "outputs": {"y": {"dtype": "float32", "shape": [3], "data": "AA"}}}
        head.connection.publish("pamdi/v1/source/gate/result", msgspec.json.encode(broken))
        head.say("w1", "answered")
        assert (await work).outputs["y"].tolist() == [0.0, 1.0, 2.0]
        assert client.unreadable == 1


async def test_a_work_without_a_head_ends_as_unreachable(broker: RunningBroker) -> None:
    async with Client(BrokerConfig(broker.url)) as client:
        with pytest.raises(Unreachable, match="gate/w1"):
            await client.submit("gate", X, id="w1", timeout_s=0.5)


async def test_an_id_cannot_be_submitted_twice_at_once(broker: RunningBroker) -> None:
    head = Head(broker, "admitted")
    async with kept(head.connection), Client(BrokerConfig(broker.url)) as client:
        await until(head.connection.connected.is_set)
        first = asyncio.ensure_future(client.submit("gate", X, id="w1", timeout_s=60.0))
        await until(lambda: head.heard)
        with pytest.raises(BadInput, match="already"):
            await client.submit("gate", X, id="w1")
        head.say("w1", "answered")
        assert (await first).status == "answered"


async def test_one_copy_of_a_work_waits_for_a_broker_that_is_away(broker: RunningBroker) -> None:
    """However often the work is repeated, a slow or absent broker finds one copy of it in the queue."""
    broker.kill()
    async with Client(BrokerConfig(broker.url)) as client:
        work = asyncio.ensure_future(client.submit("gate", X, id="w1", timeout_s=60.0))
        await asyncio.sleep(0)
        pending = client._pending["gate", "w1"]
        for _ in range(10):
            client._publish(pending)
        assert len(client._mqtt._queue) == 1
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"password_file": "nowhere"}, "password file nowhere: No such file or directory: check the path and mode"),
        ({"url": "broker:1883"}, "broker url 'broker:1883': write mqtt://HOST:PORT or mqtts://HOST:PORT"),
        ({"url": "mqtt://broker..lan"}, "broker url 'mqtt://broker..lan': no host can have that name"),
    ],
)
async def test_settings_that_cannot_work_are_said_before_anything_is_submitted(settings: Any, line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}"):
        async with Client(BrokerConfig(**settings)):
            pass


async def test_a_broker_that_never_let_us_in_ends_a_work_at_once_when_no_waiting_mends_that(tmp_path: Path) -> None:
    if not have_mosquitto():
        pytest.skip("mosquitto is not installed here")
    with running(start_mosquitto(tmp_path, users={"gate": "secret"})) as closed:
        async with Client(BrokerConfig(closed.url)) as client:
            with pytest.raises(Unreachable, match="the broker lets nobody in without a user"):
                await client.submit("gate", X, timeout_s=3600.0)


async def test_no_work_waits_for_a_client_that_has_stopped(broker: RunningBroker, monkeypatch: Any) -> None:
    head = Head(broker, *["silence"] * 1000)
    async with kept(head.connection):
        await until(head.connection.connected.is_set)
        client = Client(BrokerConfig(broker.url))
        with pytest.raises(Unreachable, match="not open"):
            await client.submit("gate", X)

        def broken(payload: bytes) -> None:
            raise ConfigError("the password file is gone")

        monkeypatch.setattr(client_module, "read_result", broken)
        async with client:
            work = asyncio.ensure_future(client.submit("gate", X, id="w1", timeout_s=3600.0))
            await until(lambda: head.heard)
            head.say("w1", "admitted")
            with pytest.raises(Unreachable, match="^the password file is gone$"):
                await work
            with pytest.raises(Unreachable, match="not open"):
                await client.submit("gate", X)


async def test_a_broker_out_of_reach_is_told_in_our_words_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The library has its own, at every try: one line a second into the journal."""
    with socket.create_server(("127.0.0.1", 0)) as rude:
        rude.settimeout(60.0)
        loop = asyncio.get_running_loop()
        async with Client(BrokerConfig(f"mqtt://127.0.0.1:{rude.getsockname()[1]}")) as client:
            for _ in range(2):
                connection, _ = await loop.run_in_executor(None, rude.accept)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, no goodbye
                connection.close()
            await until(client._mqtt.tried.is_set)
            rude.close()  # or the next try would wait for a word
    assert [record.message for record in caplog.records if record.name != "asyncio"] == []


def test_a_client_that_is_closed_at_once_leaves_nothing_that_was_never_begun(recwarn: pytest.WarningsRecorder) -> None:
    async def in_vain() -> None:
        async with Client(BrokerConfig("mqtt://127.0.0.1:1")) as client:
            await client.submit("gate", {"x": [1.0]})  # type: ignore[dict-item]  # the mistake

    with pytest.raises(BadInput, match="x is a list"):
        asyncio.run(in_vain())
    gc.collect()
    assert [text for text in (str(warning.message) for warning in recwarn) if "never awaited" in text] == []
