"""A real daemon with an empty store and a `store_url`: what it is told to hold, it pulls, and then it answers."""

from pathlib import Path

import pytest

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.client import Client
from pamdi.engines.digits import load
from tests.brokers import have_mosquitto, running, start_mosquitto
from tests.daemon.running import MODEL, STORE, Daemon, config_text, listening

pytest.importorskip("aiohttp", reason="the server needs aiohttp")
pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")

READY_S_MAX = 120.0


async def test_a_daemon_with_an_empty_store_pulls_what_it_is_told_to_hold_and_answers(tmp_path: Path) -> None:
    from tests.engines.test_pull import serving

    with running(start_mosquitto(tmp_path)) as broker, serving(STORE) as port:
        text = config_text(broker.url, tmp_path, extra=f'store_url = "http://127.0.0.1:{port}"')
        store = tmp_path / "store"
        daemon = Daemon(tmp_path, text.replace(f'store = "{STORE}"', f'store = "{store}"'))
        try:
            async with listening(broker.url) as ear, Client(BrokerConfig(broker.url)) as client:
                info = await ear.until("pamdi/v1/device/d0/info", b"memory_bytes", READY_S_MAX)
                assert b'"models":{}' in info  # it names no files, so that a controller tries it
                ear.allocate("d0")
                await ear.until("pamdi/v1/device/d0/allocation/state", b'"ready"', READY_S_MAX)
                answer = await client.submit("gate", {"image": load("test")[0][:1]}, id="w1")
            assert answer.status == "answered"
            assert {path.name for path in (store / MODEL).glob("*.onnx")} == {
                path.name for path in (STORE / MODEL).glob("*.onnx")
            }
        finally:
            daemon.close()
