"""A real broker for every test that asks: mosquitto and the embedded one, where each can run."""

from pathlib import Path
from typing import Iterator

import pytest

from tests.brokers import RunningBroker, have_amqtt, have_mosquitto, running, start_amqtt, start_mosquitto


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningBroker]:
    if not (have_mosquitto if request.param == "mosquitto" else have_amqtt)():
        pytest.skip(f"{request.param} is not installed here")
    start = start_mosquitto if request.param == "mosquitto" else start_amqtt
    with running(start(tmp_path)) as started:
        yield started
