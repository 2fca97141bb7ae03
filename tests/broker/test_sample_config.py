"""The sample mosquitto.conf, its access list and certificates in a real mosquitto, as "five boards" would use them."""

import asyncio
import os
import re
import shutil
import ssl
import subprocess
import time
from pathlib import Path
from typing import Iterator, List, Optional

import aiomqtt
import pytest

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.broker_tls import tls_context
from pamdi.client.loops import run_together
from pamdi.client.mqtt import Connection
from tests.brokers import RunningBroker, free_port, have_mosquitto, mosquitto_path, running

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
USERS = ("controller", "operator", "gate", "d0", "d1")
WAIT_S = 60.0

pytestmark = [
    pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed here"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed here"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the comment in mosquitto.conf makes in /etc/mosquitto/pamdi."""
    folder = tmp_path_factory.mktemp("pamdi")
    subprocess.run([str(EXAMPLES / "make-certs.sh"), str(folder), "localhost", "127.0.0.1"], check=True)
    shutil.copy(EXAMPLES / "mosquitto.acl", folder / "acl")
    passwords = folder / "passwords"
    passwords.write_text("".join(f"{user}:{user}-secret\n" for user in USERS))
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
    for user in USERS:
        (folder / f"{user}.password").write_text(f"{user}-secret\n")
    return folder


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[RunningBroker]:
    """Only paths and the port of the sample are replaced; it is included by a main file such as Debian's."""
    port = free_port()
    sample = (EXAMPLES / "mosquitto.conf").read_text(encoding="utf-8")
    sample = sample.replace("/etc/mosquitto/pamdi", str(folder)).replace("\nlistener 8883\n", f"\nlistener {port}\n")
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "pamdi.conf").write_text(sample)
    main = [f"persistence_location {folder}/", "persistence true", f"include_dir {folder}/conf.d"]
    if os.geteuid() == 0:
        main.insert(0, "user root")  # else it drops privileges and cannot read the test's folder
    (folder / "mosquitto.conf").write_text("\n".join([*main, ""]))
    command = [str(mosquitto_path()), "-c", str(folder / "mosquitto.conf")]
    with running(RunningBroker(command, port, folder / "log", "mqtts")) as started:
        yield started


def _client(broker: RunningBroker, folder: Path, user: Optional[str], password: Optional[str]) -> aiomqtt.Client:
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    return aiomqtt.Client(
        "localhost", broker.port, username=user, password=password, tls_context=context, timeout=WAIT_S
    )  # fmt: skip


async def _heard(broker: RunningBroker, folder: Path, by: str, sender: str, topics: List[str]) -> List[str]:
    """The topics, of those that ``sender`` publishes, that reach ``by``. The last one must, and ends the wait."""
    heard: List[str] = []
    async with _client(broker, folder, by, f"{by}-secret") as listener:
        await listener.subscribe("pamdi/v1/#", qos=1)
        async with _client(broker, folder, sender, f"{sender}-secret") as client:
            for topic in topics:
                await client.publish(topic, b"x", qos=1)
        async for message in listener.messages:
            heard.append(str(message.topic))
            if heard[-1] == topics[-1]:
                break
    return heard


async def test_our_own_connection_works_with_user_password_and_tls(broker: RunningBroker, folder: Path) -> None:
    config = BrokerConfig(
        url=f"mqtts://127.0.0.1:{broker.port}", user="d0",
        password_file=str(folder / "d0.password"), ca_file=str(folder / "ca.crt"),
    )  # fmt: skip
    heard: "asyncio.Future[bytes]" = asyncio.get_running_loop().create_future()
    connection = Connection(config, "pamdi-d0", lambda topic, payload, retained: heard.set_result(payload))
    connection.subscribe("pamdi/v1/device/d0/drain")
    connection.publish("pamdi/v1/device/d0/drain", b"it works")

    async def until_heard() -> None:
        assert await asyncio.wait_for(heard, WAIT_S) == b"it works"

    await run_together({"broker": connection.run(), "wait": until_heard()})


@pytest.mark.parametrize(
    ("user", "password"),
    [("d0", "wrong"), ("nobody", "d0-secret"), (None, None)],
    ids=["password", "user", "anonymous"],
)
async def test_whoever_is_not_known_is_refused(
    broker: RunningBroker, folder: Path, user: Optional[str], password: Optional[str]
) -> None:
    with pytest.raises(aiomqtt.MqttError, match=r"(?i)not authori[sz]ed|code:5|bad user"):
        async with _client(broker, folder, user, password):
            raise AssertionError("the broker let a stranger in")


async def test_a_client_that_trusts_another_authority_does_not_talk_to_this_broker(broker: RunningBroker) -> None:
    client = aiomqtt.Client(
        "localhost", broker.port, username="d0", password="d0-secret", tls_context=tls_context(BrokerConfig())
    )  # fmt: skip
    with pytest.raises(aiomqtt.MqttError, match="CERTIFICATE_VERIFY_FAILED"):
        async with client:
            raise AssertionError("an unknown authority was trusted")


async def test_a_device_speaks_for_itself_and_answers_but_not_for_others(broker: RunningBroker, folder: Path) -> None:
    sent = ["device/d1/info", "device/d1/state", "controller/state", "source/gate/submit", "device/d0/info"]
    topics = [f"pamdi/v1/{topic}" for topic in [*sent, "source/gate/result"]]
    heard = await _heard(broker, folder, "operator", "d0", topics)
    assert heard == ["pamdi/v1/device/d0/info", "pamdi/v1/source/gate/result"]


async def test_a_program_submits_to_its_own_source_and_cannot_pose_as_a_device(
    broker: RunningBroker, folder: Path
) -> None:
    sent = ["source/yard/submit", "source/gate/result", "device/gate/info", "device/d0/drain", "source/gate/submit"]
    topics = [f"pamdi/v1/{topic}" for topic in sent]
    assert await _heard(broker, folder, "operator", "gate", topics) == ["pamdi/v1/source/gate/submit"]


async def test_a_program_hears_the_answers_of_its_own_source_alone(broker: RunningBroker, folder: Path) -> None:
    sent = ["device/d0/state", "source/yard/result", "source/yard/submit", "source/gate/result"]
    topics = [f"pamdi/v1/{topic}" for topic in sent]
    assert await _heard(broker, folder, "gate", "controller", topics) == ["pamdi/v1/source/gate/result"]


async def test_what_is_retained_survives_kill_9(broker: RunningBroker, folder: Path) -> None:
    async with _client(broker, folder, "controller", "controller-secret") as client:
        await client.publish("pamdi/v1/controller/state", b"online", qos=1, retain=True)
    kept, until = folder / "mosquitto.db", time.monotonic() + WAIT_S
    while not kept.exists() or b"controller/state" not in kept.read_bytes():  # written one second after the change
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    broker.restart()
    async with _client(broker, folder, "operator", "operator-secret") as client:
        await client.subscribe("pamdi/v1/controller/state")
        message = await asyncio.wait_for(client.messages.__anext__(), WAIT_S)
    assert (message.payload, message.retain) == (b"online", True)


def test_a_renewed_certificate_keeps_the_authority(tmp_path: Path) -> None:
    make = [str(EXAMPLES / "make-certs.sh"), str(tmp_path), "broker.local"]
    subprocess.run(make, check=True)
    authority, certificate = ((tmp_path / name).read_bytes() for name in ("ca.crt", "broker.crt"))
    assert (tmp_path / "broker.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "broker.key").chmod(0o640)  # for the broker's group
    subprocess.run([*make, "192.168.1.10"], check=True)
    assert (tmp_path / "ca.crt").read_bytes() == authority
    assert (tmp_path / "broker.crt").read_bytes() != certificate
    shown = subprocess.run(
        ["openssl", "x509", "-in", str(tmp_path / "broker.crt"), "-noout", "-ext", "subjectAltName"],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert re.findall(r"(DNS|IP Address):(\S+?)(?:,|$)", shown.stdout.strip()) == [
        ("DNS", "broker.local"),
        ("IP Address", "192.168.1.10"),
    ]
    assert (tmp_path / "broker.key").stat().st_mode & 0o777 == 0o640  # the broker reads the new one without more ado


def test_the_sample_lets_a_submission_of_full_size_pass() -> None:
    sample = (EXAMPLES / "mosquitto.conf").read_text(encoding="utf-8")
    found = re.search(r"^message_size_limit (\d+)$", sample, re.MULTILINE)
    assert found is not None
    assert int(found.group(1)) > 8 * 2**20 * 4 / 3 + 64 * 1024
