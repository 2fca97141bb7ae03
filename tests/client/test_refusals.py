"""What a real broker says to whom it turns away, and what we make of it: one line, what, where, how to mend it."""

import asyncio
import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.client import Client
from pamdi.client.mqtt import Connection
from pamdi.core.errors import Unreachable
from tests.brokers import free_port, have_amqtt, have_mosquitto, running, start_amqtt, start_mosquitto
from tests.client.test_mqtt import WAIT_S, Ear, kept, until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed here")


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dict[str, Any]]:
    """A plain listener with users and an access list, a TLS listener, a port where nobody listens; and the files."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed here")
    folder = tmp_path_factory.mktemp("broker")
    subprocess.run([str(EXAMPLES / "make-certs.sh"), str(folder), "localhost"], check=True, capture_output=True)
    (folder / "other").mkdir()
    subprocess.run([str(EXAMPLES / "make-certs.sh"), str(folder / "other"), "localhost"], check=True,
                   capture_output=True)  # fmt: skip
    (folder / "acl").write_text("user d0\ntopic read #\ntopic write pamdi/v1/device/d0/#\n")
    (folder / "right").write_text("secret\n")
    (folder / "wrong").write_text("guess\n")
    tls_port = free_port()
    plain = start_mosquitto(
        folder, users={"d0": "secret"},
        config=f"acl_file {folder}/acl\nlistener {tls_port} 127.0.0.1\n"
        f"certfile {folder}/broker.crt\nkeyfile {folder}/broker.key\n",
    )  # fmt: skip
    with running(plain):
        yield {"plain": plain.port, "tls": tls_port, "nobody": free_port(), "folder": folder}


CA = {"ca_file": "{folder}/ca.crt"}
RIGHT = {"user": "d0", "password_file": "{folder}/right"}


@pytest.mark.parametrize("url, settings, says", [
    ("mqtt://127.0.0.1:{plain}", {}, "the broker lets nobody in without a user: .*--user NAME and --password-file"),
    ("mqtt://127.0.0.1:{plain}", {"user": "d0", "password_file": "{folder}/wrong"},
     "does not accept user d0 with this password: .*mosquitto_passwd"),
    ("mqtt://127.0.0.1:{nobody}", RIGHT, "connection refused, nothing listens on port {nobody}: start the broker"),
    ("mqtts://localhost:{plain}", RIGHT, "port {plain} does not speak TLS: write mqtt:// for a plain listener"),
    ("mqtt://127.0.0.1:{tls}", RIGHT,
     "port {tls} closed the connection without a word: write mqtts://127.0.0.1:{tls} with --ca FILE"),
    ("mqtts://localhost:{tls}", RIGHT, "signed by nobody this machine knows: give the authority's file: --ca FILE"),
    ("mqtts://localhost:{tls}", {**RIGHT, "ca_file": "{folder}/other/ca.crt"},
     "is not signed by .*/other/ca.crt: give the ca.crt that belongs to this broker"),
    ("mqtts://127.0.0.1:{tls}", {**RIGHT, **CA}, "certificate is not for 127.0.0.1: use a name that is in it"),
], ids=["user", "password", "port", "TLS to plain", "plain to TLS", "no CA", "wrong CA", "other name"])  # fmt: skip
async def test_who_is_turned_away_learns_what_where_and_how_to_mend_it(
    ports: Dict[str, Any], url: str, settings: Dict[str, str], says: str
) -> None:
    config = BrokerConfig(url.format(**ports), **{key: text.format(**ports) for key, text in settings.items()})  # type: ignore[arg-type]
    async with kept(Connection(config, "c", Ear())) as connection:
        await asyncio.wait_for(connection.tried.wait(), WAIT_S)
        with pytest.raises(Unreachable, match=says.format(**ports)) as told:
            await connection.reached(0.1)
    assert "\n" not in str(told.value) and str(told.value).startswith(f"broker {config.url}: ")


async def test_what_waiting_does_not_mend_is_told_at_once(ports: Dict[str, Any]) -> None:
    config = BrokerConfig(f"mqtts://localhost:{ports['tls']}")
    async with kept(Connection(config, "c", Ear())) as connection:
        with pytest.raises(Unreachable, match="--ca FILE"):
            await asyncio.wait_for(connection.reached(10_000.0), WAIT_S)


async def test_with_the_right_files_both_listeners_let_us_in(ports: Dict[str, Any]) -> None:
    right = {key: text.format(**ports) for key, text in {**RIGHT, **CA}.items()}
    for url in (f"mqtt://127.0.0.1:{ports['plain']}", f"mqtts://localhost:{ports['tls']}"):
        async with kept(Connection(BrokerConfig(url, **right), "c", Ear())) as connection:  # type: ignore[arg-type]
            await connection.reached(WAIT_S)


async def test_a_message_that_the_access_list_forbids_is_told_and_is_not_taken_for_delivered(
    ports: Dict[str, Any],
) -> None:
    right = {key: text.format(**ports) for key, text in RIGHT.items()}
    config = BrokerConfig(f"mqtt://127.0.0.1:{ports['plain']}", **right)  # type: ignore[arg-type]
    delivered: List[str] = []
    refused: List[str] = []
    lines: List[str] = []
    async with kept(Connection(config, "c", Ear(), log=lines.append)) as connection:
        for topic in ("pamdi/v1/device/d0/state", "pamdi/v1/device/d1/state", "pamdi/v1/device/d1/state"):
            connection.publish(topic, b"x", 1, False, lambda topic=topic: delivered.append(topic), refused.append)  # type: ignore[misc]
        assert await connection.drain(WAIT_S)
        await until(lambda: len(refused) == 2)
    assert delivered == ["pamdi/v1/device/d0/state"] and connection.refusals == 2
    says = f"broker {config.url} does not let user d0 publish to pamdi/v1/device/d1/state: add `topic write "
    assert [line.startswith(says) for line in lines].count(True) == 1 and refused[0].startswith(says)


async def test_a_work_that_the_broker_does_not_accept_ends_at_once(ports: Dict[str, Any]) -> None:
    right = {key: text.format(**ports) for key, text in RIGHT.items()}
    async with Client(BrokerConfig(f"mqtt://127.0.0.1:{ports['plain']}", **right)) as client:  # type: ignore[arg-type]
        with pytest.raises(Unreachable, match="does not let user d0 publish to pamdi/v1/source/gate/submit"):
            await client.submit("gate", {"x": np.zeros(1)}, timeout_s=10_000.0)


async def test_a_work_too_large_for_the_broker_says_so(tmp_path: Path) -> None:
    with running(start_mosquitto(tmp_path, config="max_packet_size 1000")) as broker:
        async with Client(BrokerConfig(broker.url)) as client:
            with pytest.raises(Unreachable, match="too large: raise max_packet_size"):
                await client.submit("gate", {"x": np.zeros(1000)}, timeout_s=10_000.0)


async def test_a_message_that_the_broker_drops_for_its_size_does_not_end_every_connection(tmp_path: Path) -> None:
    """mosquitto 2.0 says so with a reason that MQTT 5 does not have there, which the library does not survive."""
    ear, lines = Ear(), []  # type: Ear, List[str]
    with running(start_mosquitto(tmp_path, config="message_size_limit 1000")) as broker:
        connection = Connection(BrokerConfig(broker.url), "c", ear, log=lines.append)
        connection.subscribe("a")
        async with kept(connection):
            for payload in (bytes(2000), b"small"):
                connection.publish("a", payload)
            await until(lambda: ear.payloads[-1:] == [b"small"])
            assert await connection.drain(WAIT_S)
    assert [line for line in lines if "3.1.1" in line] == lines[1:2]


@pytest.mark.skipif(not have_amqtt(), reason="amqtt is not installed here")
async def test_a_broker_of_the_older_version_is_spoken_to_in_it(tmp_path: Path) -> None:
    with running(start_amqtt(tmp_path)) as broker:
        ear, lines = Ear(), []  # type: Ear, List[str]
        connection = Connection(BrokerConfig(broker.url), "c", ear, log=lines.append)
        connection.subscribe("a")
        async with kept(connection):
            await until(connection.connected.is_set)
            connection.publish("a", b"x")
            await until(lambda: ear.payloads == [b"x"])
    assert lines[0] == f"broker 127.0.0.1:{broker.port} is connected"


async def test_two_clients_of_one_name_say_so_once_each_and_back_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: List[str] = []
    contested: List[int] = []
    with running(start_mosquitto(tmp_path)) as broker:
        async with contextlib.AsyncExitStack() as stack:
            twins = [Connection(BrokerConfig(broker.url), "same", Ear(), log=lines.append) for _ in range(2)]
            for number, twin in enumerate(twins):
                twin.on_contested = lambda number=number: contested.append(number)  # type: ignore[misc]
                await stack.enter_async_context(kept(twin))
            await until(lambda: set(contested) == {0, 1})
            await until(lambda: sum("session taken over" in line for line in lines) >= 2)
        log = broker.log.read_text()
    assert "another client uses the name same: stop one of the two" in lines[-1]
    assert len(lines) <= 12  # and not a line for each of the fights
    assert log.count("already connected, closing old connection") <= 40


async def test_what_whoever_listens_cannot_bear_ends_the_loop_and_is_no_trouble_of_the_brokers(tmp_path: Path) -> None:
    def listen(topic: str, payload: bytes, retained: bool) -> None:
        raise OSError("a defect of ours")

    with running(start_mosquitto(tmp_path)) as broker:
        connection = Connection(BrokerConfig(broker.url), "c", listen)
        connection.subscribe("a")
        connection.publish("a", b"x")
        with pytest.raises(OSError, match="a defect of ours"):
            await asyncio.wait_for(connection.run(), WAIT_S)
