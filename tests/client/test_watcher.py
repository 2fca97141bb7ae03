"""What keeps somebody who watches the fleet from hearing more."""

import json

import msgspec
import pytest

from pamdi.cli.fleet_commands import _hear
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.watcher import Watcher
from pamdi.core.allocation import SMALL_FLEET_DEVICES_MAX, AllocationState, DeviceAllocation, Resident, SlotState

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


def test_a_large_fleet_is_settled_although_not_everybody_was_told_the_newest_epoch() -> None:
    """There who is not concerned keeps what it was told; in a small fleet that would be a document to come."""
    for devices, settled in ((SMALL_FLEET_DEVICES_MAX, False), (SMALL_FLEET_DEVICES_MAX + 1, True)):
        watcher = Watcher(BrokerConfig("mqtt://127.0.0.1:1"))
        ids = [f"d{n}" for n in range(devices)]
        for n, id in enumerate(ids):
            wanted = DeviceAllocation(1 + n % 2, segments=(Resident("net", 0, 1),))
            held = AllocationState(1 + n % 2, (SlotState("net", 0, 1, "ready"),))
            for leaf, what in (("allocation/set", wanted), ("allocation/state", held)):
                watcher._message(f"pamdi/v1/device/{id}/{leaf}", msgspec.json.encode(what), True)
            watcher._message(f"pamdi/v1/device/{id}/state", b"online", True)
        assert watcher.settled(ids, "pa-mdi", []) is settled
