"""What people write about their broker: what cannot be so is told at once, and what does not answer with its cause."""

from typing import Any

import pytest

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.mqtt import Connection
from pamdi.core.errors import ConfigError, Unreachable
from tests.brokers import free_port
from tests.client.test_mqtt import Ear, kept, until


@pytest.mark.parametrize("changes, says", [
    ({"ca_file": "gone.crt"}, "ca_file gone.crt: No such file"),
    ({"ca_file": __file__}, "not what it should hold"),
    ({"cert_file": "gone.crt", "key_file": "gone.key"}, "cert_file gone.crt, key_file gone.key: No such file"),
    ({"password_file": "gone"}, "password file gone: No such file"),
])  # fmt: skip
async def test_a_file_that_no_waiting_mends_ends_the_connection_with_its_name(changes: Any, says: str) -> None:
    connection = Connection(BrokerConfig("mqtts://127.0.0.1:1", **changes), "c", Ear())
    for tried in (connection.run(), connection.reached(1.0)):
        with pytest.raises(ConfigError, match=says):
            await tried


async def test_who_cannot_reach_the_broker_is_told_why() -> None:
    async with kept(Connection(BrokerConfig(f"mqtt://127.0.0.1:{free_port()}"), "c", Ear())) as connection:
        await until(lambda: connection.trouble)
        with pytest.raises(Unreachable, match=r"mqtt://127.0.0.1:\d+: connection refused, .*: start the broker"):
            await connection.reached(0.1)


@pytest.mark.parametrize("changes, says", [
    ({"prefix": "a/#"}, "prefix"), ({"prefix": ""}, "prefix"), ({"prefix": "a//b"}, "prefix"),
    ({"keepalive_s": 0}, "keepalive_s is 0: 1 to 600"), ({"keepalive_s": -1}, "keepalive_s"),
])  # fmt: skip
def test_a_prefix_or_keep_alive_that_cannot_be_is_told(changes: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BrokerConfig(**changes)


@pytest.mark.parametrize("url", ["127.0.0.1:1883", "http://broker", "mqtt://", "mqtt://h:99999", "mqtt://u:p@h"])
def test_what_is_not_a_brokers_address_is_told(url: str) -> None:
    with pytest.raises(ConfigError, match="mqtt://"):
        BrokerConfig(url).address()


def test_ports_have_their_defaults() -> None:
    assert BrokerConfig("mqtt://h").address() == ("h", 1883, False)
    assert BrokerConfig("mqtts://h").address() == ("h", 8883, True)
