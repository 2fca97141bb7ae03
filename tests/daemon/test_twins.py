"""Two processes with one name, real ones at a real broker: exactly one stays, the other ends with one line."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Iterator, List, Sequence

import pytest

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.claim import ANSWER_S, Claim
from pamdi.client.loops import end
from pamdi.client.mqtt import Connection
from pamdi.core.errors import ConfigError
from tests.brokers import RunningBroker, free_port, have_mosquitto, running, start_mosquitto
from tests.daemon.running import WAIT_S, Daemon, config_text

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")
LINE = "pamdi: device d0 is already running somewhere: give this one another id in daemon.toml"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    with running(start_mosquitto(tmp_path)) as started:
        yield started


@pytest.fixture
def begun() -> Iterator[List[Daemon]]:
    daemons: List[Daemon] = []
    yield daemons
    for daemon in daemons:
        daemon.close()


def start(begun: List[Daemon], tmp_path: Path, url: str, name: str) -> Daemon:
    (tmp_path / name).mkdir()
    begun.append(Daemon(tmp_path / name, config_text(url, tmp_path / name)))
    return begun[-1]


async def one_stays(twins: Sequence[Daemon]) -> Daemon:
    """Waits until one has ended. Which one stays is returned."""
    until = time.monotonic() + WAIT_S
    while all(twin.process.poll() is None for twin in twins):
        assert time.monotonic() < until, "\n--\n".join(twin.log() for twin in twins)
        await asyncio.sleep(0.05)
    (ended,) = [twin for twin in twins if twin.process.poll() is not None]
    assert ended.process.poll() == 1 and "Traceback" not in ended.log()
    assert ended.log().splitlines()[-1] == LINE
    return next(twin for twin in twins if twin is not ended)


async def test_of_two_that_start_at_once_one_stays(broker: RunningBroker, tmp_path: Path, begun: List[Daemon]) -> None:
    twins = [start(begun, tmp_path, broker.url, name) for name in ("one", "two")]
    stays = await one_stays(twins)
    await stays.says("is ready")


async def test_of_two_that_waited_for_the_broker_one_stays(tmp_path: Path, begun: List[Daemon]) -> None:
    port = free_port()
    twins = [start(begun, tmp_path, f"mqtt://127.0.0.1:{port}", name) for name in ("one", "two")]
    for twin in twins:
        await twin.says("out of reach")
    with running(start_mosquitto(tmp_path, port=port)):
        stays = await one_stays(twins)
        await stays.says("is ready")


async def test_a_second_daemon_in_one_folder_ends_with_one_line_also_without_a_broker(
    tmp_path: Path, begun: List[Daemon]
) -> None:
    text = config_text(f"mqtt://127.0.0.1:{free_port()}", tmp_path)
    begun.append(Daemon(tmp_path, text, "one"))
    until = time.monotonic() + WAIT_S
    while not (tmp_path / "run-d0" / "journal.sqlite").exists():
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    begun.append(Daemon(tmp_path, text, "two"))
    assert await asyncio.get_running_loop().run_in_executor(None, begun[1].process.wait, WAIT_S) == 1
    assert (
        begun[1].log() == f"pamdi: {tmp_path}/run-d0: another daemon works in it: give this one another runtime_dir\n"
    )
    begun[0].kill()
    begun[1].start()  # and a folder whose daemon was killed is free
    await begun[1].says("out of reach")


async def test_a_broker_that_takes_its_time_is_not_taken_for_a_free_name(broker: RunningBroker) -> None:
    """The time for an answer begins when the broker has handed the question on."""

    def answer(topic: str, payload: bytes, retained: bool) -> None:
        holder.publish("tell", b"9")

    def ask_a_broker_that_sleeps(topic: str) -> None:
        os.kill(broker.pid, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(3 * ANSWER_S, os.kill, broker.pid, signal.SIGCONT)
        say(topic)

    holder = Connection(BrokerConfig(broker.url), "holder", answer)
    holder.subscribe("ask")
    serving = asyncio.ensure_future(holder.run())
    await asyncio.wait_for(holder.connected.wait(), WAIT_S)
    claim = Claim(BrokerConfig(broker.url), "n", "ask", "tell", 5, "it is taken")
    say = claim._say
    claim._say = ask_a_broker_that_sleeps  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="it is taken"):
        await asyncio.wait_for(claim.keep(), WAIT_S)
    assert not claim.holds
    await end([serving])


async def test_a_holder_that_could_not_answer_comes_back_and_the_newcomer_yields(
    broker: RunningBroker, tmp_path: Path, begun: List[Daemon]
) -> None:
    old = start(begun, tmp_path, broker.url, "old")
    await old.says("is ready")
    os.kill(old.process.pid, signal.SIGSTOP)
    new = start(begun, tmp_path, broker.url, "new")
    try:
        await new.says("is ready")
    finally:
        os.kill(old.process.pid, signal.SIGCONT)
    assert await one_stays([old, new]) is old
    assert "another client uses the name pamdi-d0" in old.log() + new.log()


def heard(claim: Claim, holds: bool, topic: str, number: int) -> "tuple[List[str], bool]":
    """What ``claim`` says to a message, and whether it yields."""
    said: List[str] = []
    claim.holds = holds
    claim._say = said.append  # type: ignore[method-assign, assignment]
    claim._heard(topic, str(number).encode(), False)
    return said, claim._yields.is_set()


@pytest.mark.parametrize("holds, topic, number, does", [
    (True, "ask", 1, (["tell"], False)), (True, "ask", 9, (["tell"], False)),
    (True, "tell", 1, ([], True)), (True, "tell", 9, ([], False)),
    (False, "ask", 1, ([], True)), (False, "ask", 9, (["ask"], False)),
    (False, "tell", 1, ([], True)), (False, "tell", 9, ([], True)),
    (True, "tell", 5, ([], False)), (False, "ask", 5, ([], False)),
])  # fmt: skip
async def test_what_is_said_to_whom(holds: bool, topic: str, number: int, does: "tuple[List[str], bool]") -> None:
    assert heard(Claim(BrokerConfig(), "n", "ask", "tell", 5, "lost"), holds, topic, number) == does


@pytest.mark.parametrize("payload", [b"", b"?", b"-1", b"1.0", b"9" * 5000, b"\xff", "\u0663".encode()])
async def test_what_is_no_number_is_nobodys(payload: bytes) -> None:
    claim = Claim(BrokerConfig(), "n", "ask", "tell", 5, "lost")
    for topic in ("ask", "tell"):
        claim._heard(topic, payload, False)
    assert not claim._yields.is_set() and not claim._connection._queue
