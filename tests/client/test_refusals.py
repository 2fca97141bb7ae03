"""What a real broker says to whom it turns away, and what we make of it: one line, what, where, how to mend it."""

import asyncio
import contextlib
import gc
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.client import Client
from pamdi.client.mqtt import Connection
from pamdi.client.session import MQTT311
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


@pytest.mark.parametrize("limit", ["max_packet_size", "message_size_limit"])
async def test_a_work_too_large_for_the_broker_says_so_and_smaller_ones_go_on(tmp_path: Path, limit: str) -> None:
    """mosquitto 2.0 says the latter with a reason that MQTT 5 does not have there, which the library cannot read."""
    ear, lines = Ear(), []  # type: Ear, List[str]
    with running(start_mosquitto(tmp_path, config=f"{limit} 1000")) as broker:
        async with Client(BrokerConfig(broker.url)) as client:
            with pytest.raises(Unreachable, match="submit is too large: raise .*" + limit):
                await client.submit("gate", {"x": np.zeros(1000)}, timeout_s=WAIT_S)
        connection = Connection(BrokerConfig(broker.url), "c", ear, log=lines.append)
        connection.subscribe("a")
        async with kept(connection):
            for payload in (bytes(2000), b"small", bytes(2000), b"last"):
                connection.publish("a", payload)
            await until(lambda: ear.payloads == [b"small", b"last"])
            assert await connection.drain(WAIT_S) and connection.refusals == 2
    assert len(lines) == 2 and "a message to a is too large" in lines[1]  # one life, and each topic once


async def test_a_work_that_an_older_broker_may_have_dropped_for_its_size_says_so_in_the_end(tmp_path: Path) -> None:
    with running(start_mosquitto(tmp_path, config="message_size_limit 1000")) as broker:
        async with Client(BrokerConfig(broker.url)) as client:
            client._mqtt._protocol = MQTT311
            with pytest.raises(Unreachable, match=r"does the broker let 107\d\d bytes pass \(message_size_limit\)"):
                await client.submit("gate", {"x": np.zeros(1000)}, timeout_s=1.0)


async def test_what_the_library_cannot_read_is_asked_for_in_the_older_version(tmp_path: Path) -> None:
    """Else what it was said of would come again at every connection, and end it."""
    protocols: List[int] = []

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connect = await reader.read(100)
        protocols.append(connect[8])
        writer.write(b"\x20\x03\x00\x00\x00" if connect[8] == 5 else b"\x20\x02\x00\x00")  # CONNACK: success
        while connect[8] == 5 and (await reader.read(1000))[:1] != b"\x32":
            pass
        writer.write(b"\x40\x04\x00\x01\xee\x00")  # PUBACK, for a reason that there is not
        await reader.read(1000)
        writer.close()

    server = await asyncio.start_server(broker, "127.0.0.1", 0)
    lines: List[str] = []
    config = BrokerConfig(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    connection = Connection(config, "c", Ear(), log=lines.append)
    connection.publish("a", b"x")
    async with kept(connection):
        await until(lambda: protocols[-1:] == [4])
    server.close()
    assert any("says what MQTT 5 does not know" in line and "3.1.1" in line for line in lines)


async def test_a_handshake_that_fails_leaves_no_socket_behind(ports: Dict[str, Any]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for url in ("mqtts://localhost:{plain}", "mqtts://localhost:{tls}"):
            async with kept(Connection(BrokerConfig(url.format(**ports)), "c", Ear())) as connection:
                await asyncio.wait_for(connection.tried.wait(), WAIT_S)
        gc.collect()
    assert [str(warning.message) for warning in caught if "SSLSocket" in str(warning.message)] == []


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
    said = [line for line in lines if "session taken over" in line]
    assert said and all("another client uses the name same: stop one of the two" in line for line in said)
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


async def test_nor_is_what_whoever_hears_of_an_acknowledgement_cannot_bear(tmp_path: Path) -> None:
    def hear() -> None:
        raise RuntimeError("a defect of ours")

    with running(start_mosquitto(tmp_path)) as broker:
        connection = Connection(BrokerConfig(broker.url), "c", Ear())
        connection.publish("a", b"x", on_acknowledged=hear)
        with pytest.raises(RuntimeError, match="a defect of ours"):
            await asyncio.wait_for(connection.run(), WAIT_S)
