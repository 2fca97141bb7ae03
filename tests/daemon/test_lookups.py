"""Neighbours that are known by name, while whoever knows the names is slow or silent."""

import asyncio
import socket
import threading
import time
from typing import Any, Callable, List, Tuple

import pytest
import uvloop

from pamdi.core.allocation import Neighbour
from pamdi.core.events import LinkDown, LinkUp
from pamdi.daemon import links as dialling
from pamdi.daemon.links import Links
from pamdi.daemon.lookups import Lookups

WAIT_S = 60.0

new_loops = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


class Names:
    """``socket.getaddrinfo`` that does not answer before ``answers`` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
        self.asked: List[str] = []
        self.answers = threading.Event()
        self._found = found
        monkeypatch.setattr(socket, "getaddrinfo", self._ask)

    def _ask(self, host: str, port: Any, *arguments: Any, **named: Any) -> List[Tuple[Any, ...]]:
        self.asked.append(host)
        assert self.answers.wait(WAIT_S)
        if not self._found:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in self._found]


async def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


async def test_an_address_needs_no_lookup_and_a_name_has_each_of_its_addresses_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Names(monkeypatch, "::1", "127.0.0.1", "::1")
    names.answers.set()
    lookups = Lookups()
    assert [await lookups.addresses(host) for host in ("10.0.0.7", "fd00::1", "b.lan")] == [
        ["10.0.0.7"], ["fd00::1"], ["::1", "127.0.0.1"],
    ]  # fmt: skip
    assert names.asked == ["b.lan"]
    lookups.close()


@new_loops
def test_a_dial_asks_once_however_long_the_answer_takes_and_then_reaches(
    new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling, "DIAL_S_MAX", 0.01)
    events: List[Any] = []

    async def play() -> None:
        b = Links("b", 2, lambda event: None, time.monotonic)
        await b.listen("127.0.0.1", 0)
        names = Names(monkeypatch, "127.0.0.2", "127.0.0.1")  # at the first of which nobody listens
        a = Links("a", 1, events.append, time.monotonic)
        a.set_neighbours((Neighbour("b", "b.lan", b.port),))
        await until(lambda: names.asked)
        await asyncio.sleep(0.3)  # many tries
        assert names.asked == ["b.lan"]
        monkeypatch.setattr(dialling, "DIAL_S_MAX", WAIT_S)
        names.answers.set()
        await until(lambda: events)
        await a.close(0.0)
        await b.close(0.0)

    loop = new_loop()
    loop.run_until_complete(play())
    loop.close()
    assert events == [LinkUp("b", 2), LinkDown("b")]


@new_loops
def test_a_loop_ends_without_a_word_while_names_are_still_asked_for(
    new_loop: NewLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: List[Any] = []
    names = Names(monkeypatch)

    async def play() -> None:
        a = Links("a", 1, lambda event: None, time.monotonic)
        a.set_neighbours((Neighbour("b", "b.lan", 9), Neighbour("c", "c.lan", 9)))
        await until(lambda: len(names.asked) == 2)
        await a.close(0.0)

    loop = new_loop()
    loop.set_exception_handler(lambda _, said: complaints.append(said))
    loop.run_until_complete(play())
    loop.close()
    names.answers.set()
    assert complaints == []
