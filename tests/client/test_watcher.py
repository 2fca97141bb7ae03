"""What keeps somebody who watches the fleet from hearing more."""

import json

import pytest

from pamdi.cli.fleet_commands import _hear
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.watcher import Watcher

DEEP = b'{"new": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def test_a_message_that_is_deeper_than_can_be_read_is_passed_by() -> None:
    watcher = Watcher(BrokerConfig("mqtt://127.0.0.1:1"))
    for leaf in ("info", "allocation/set", "allocation/state", "beacon", "stats"):
        watcher._message(f"pamdi/v1/device/d0/{leaf}", DEEP, True)
    watcher._message("pamdi/v1/source/gate/config", DEEP, True)
    watcher._message("pamdi/v1/controller/report", DEEP, False)
    watcher._message("pamdi/v1/device/d0/state", b"online", True)
    assert watcher.states == {"d0": "online"} and watcher.infos == {}


def test_so_is_a_report_on_a_command() -> None:
    with pytest.raises(RecursionError):
        json.loads(DEEP)
    _hear(DEEP, "1", None)  # type: ignore[arg-type]
