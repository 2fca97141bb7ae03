"""Commands give up after seconds, since a person waits for them; here nobody does."""

import pytest

from pamdi.cli import doctor_broker, doctor_fleet, status
from tests.daemon.running import WAIT_S


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (doctor_broker, doctor_fleet):
        monkeypatch.setattr(module, "CONNECT_S_MAX", WAIT_S)
    monkeypatch.setattr(status, "CONNECT_S", WAIT_S)


@pytest.fixture
def round_trips_may_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_broker, "ROUND_TRIP_S_MAX", WAIT_S)
