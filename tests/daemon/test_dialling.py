"""A neighbour that is no longer wanted while it is being dialled: whatever had happened until then, nothing stays."""

import asyncio
import contextlib
import socket
import threading
import time
from typing import Any, Callable, Iterator, List

import pytest
import uvloop

from pamdi.core import messages as ms
from pamdi.core.allocation import Neighbour
from pamdi.core.events import LinkDown, LinkUp
from pamdi.daemon.links import Links
from tests.daemon.test_link_bounds import hello
from tests.daemon.test_links import KEY

MOMENTS = 24  # turns of the loop in which a connection on this machine is made and greeted


@contextlib.contextmanager
def greeting_at_once() -> Iterator[int]:
    """Somebody whose greeting is there as soon as the connection is. Yields its port."""
    listening = socket.create_server(("127.0.0.1", 0))
    connections: List[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):  # the end of it
            while True:
                connections.append(listening.accept()[0])
                with contextlib.suppress(ConnectionError):
                    connections[-1].sendall(hello("b", 2))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for sock in [listening, *connections]:
            sock.close()


def block(in_time: bool) -> None:
    if in_time:
        time.sleep(0.01)


async def unwanted_after(turns: int, port: int, in_time: bool) -> List[Any]:
    """What was heard of a link that is wanted for so many turns of the loop. ``in_time``: what the network does in
    one of them is there at the next."""
    heard: List[Any] = []
    links = Links("a", 1, heard.append, time.monotonic)
    links.set_neighbours((Neighbour("b", "127.0.0.1", port),))
    dials = list(links._dials.values())
    for _ in range(turns):
        await asyncio.sleep(0)
    block(in_time)
    links.set_neighbours(())
    await asyncio.sleep(0)
    block(in_time)
    await asyncio.wait(dials, timeout=60.0)
    assert all(dial.done() for dial in dials)
    assert not links.send("b", ms.Taken(KEY))
    await links.close(0.0)
    return heard


@pytest.mark.parametrize("in_time", [False, True])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_is_up_goes_down_at_whatever_moment_it_is_no_longer_wanted(
    new_loop: Callable[[], asyncio.AbstractEventLoop], in_time: bool
) -> None:
    loop = new_loop()
    try:
        with greeting_at_once() as port:
            for turns in range(MOMENTS):
                heard = loop.run_until_complete(unwanted_after(turns, port, in_time))
                assert heard in ([], [LinkUp("b", 2), LinkDown("b")])
    finally:
        loop.close()
