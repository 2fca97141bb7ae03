"""sd_notify against a real datagram socket, named by path and in the abstract name space."""

import os
import socket
from pathlib import Path
from typing import Iterator, Tuple

import pytest

from pamdi.daemon.notify import Notifier

Listener = Tuple[socket.socket, str]


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    """A socket as systemd opens it, and what NOTIFY_SOCKET then says."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@pamdi-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1))
        listener.settimeout(60.0)
        yield listener, name


def test_a_life_is_told_in_order_one_datagram_each(systemd: Listener) -> None:
    listener, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.status("waiting for the broker")
    notifier.ready()
    notifier.watchdog()
    notifier.stopping()
    heard = [listener.recv(4096) for _ in range(4)]
    notifier.close()
    assert heard == [b"STATUS=waiting for the broker", b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_a_status_is_told_when_it_changes_and_stays_one_line(systemd: Listener) -> None:
    listener, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for sentence in ("idle", "idle", "3 works\nREADY=0"):
        notifier.status(sentence)
    notifier.ready()
    notifier.close()
    assert [listener.recv(4096) for _ in range(3)] == [b"STATUS=idle", b"STATUS=3 works READY=0", b"READY=1"]


def test_a_manager_that_does_not_read_makes_nobody_wait(systemd: Listener) -> None:
    listener, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(5000):  # far more than a socket's queue holds
        notifier.watchdog()
    notifier.close()
    assert listener.recv(4096) == b"WATCHDOG=1"


def test_without_systemd_or_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}, {"NOTIFY_SOCKET": "@pamdi-nobody"}):
        notifier = Notifier(environment)
        notifier.ready()
        notifier.close()
        notifier.ready()
        assert notifier.watchdog_s is None


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_interval_is_read_in_seconds_and_only_if_it_is_meant_for_us(
    environment: "dict[str, str]", watchdog_s: "float | None"
) -> None:
    assert Notifier(environment).watchdog_s == watchdog_s
