"""A port that is ours before anybody listens on it: nobody gets it by chance, and who is meant gets it."""

import socket

import pytest

from pamdi.demo.fleet import Fleet, Options
from pamdi.demo.reserved_port import reserved_port


def bound(port: int, reuse: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock


def test_nobody_gets_it_who_does_not_ask_for_it_as_a_listener() -> None:
    port, keeper = reserved_port()
    with keeper, pytest.raises(OSError, match="in use"):
        bound(port, reuse=0).close()


def test_callers_are_refused_until_somebody_listens_and_then_reach_whoever_does() -> None:
    port, keeper = reserved_port()
    with keeper:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with bound(port, reuse=1) as listening:
            listening.listen()
            with socket.create_connection(("127.0.0.1", port)) as caller, listening.accept()[0] as called:
                assert caller.getsockname() == called.getpeername()


def test_the_demo_keeps_the_port_of_its_broker() -> None:
    fleet = Fleet(Options())
    fleet.folder.rmdir()
    with fleet._port, pytest.raises(OSError, match="in use"):
        bound(int(fleet.url.rpartition(":")[2]), reuse=0).close()
