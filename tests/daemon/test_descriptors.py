"""A process without a free file descriptor: it says so once, spins nowhere, loses nothing, and goes on when it can."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections import Counter
from pathlib import Path
from typing import Any, Iterator, List

import msgspec
import pytest

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.client import Client
from pamdi.core.allocation import DeviceAllocation
from pamdi.daemon import accepting, descriptors
from pamdi.daemon.accepting import Acceptor
from pamdi.daemon.host import describe_host
from pamdi.daemon.notify import Notifier
from tests.brokers import free_port, have_mosquitto, running, start_mosquitto
from tests.daemon.running import WAIT_S, Daemon, Ear, config_text, listening
from tests.daemon.test_service import images, ready


@contextlib.contextmanager
def limited(count: int) -> Iterator[None]:
    """This process, and those that it starts, may have so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def none_left() -> Iterator[None]:
    """In this process, whatever it had."""
    taken: List[int] = []
    with limited(512):
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            yield
        finally:
            for descriptor in taken:
                os.close(descriptor)


def test_what_must_be_said_to_systemd_is_said_without_one(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WAIT_S)
        with contextlib.closing(Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})) as notifier, none_left():
            notifier.watchdog()
            assert manager.recv(100) == b"WATCHDOG=1"


def test_what_a_host_says_of_itself_is_unavailable_then_and_no_error() -> None:
    with none_left():
        host = describe_host()
    assert (host.temperatures_c, host.power_w, host.memory_bytes) == ({}, {}, None)


def test_spare_ones_are_lent_and_taken_back() -> None:
    spare = descriptors.Spare(2)
    with none_left():
        assert descriptors.none_left()
        with spare.lent():
            assert not descriptors.none_left()
        assert descriptors.none_left()
    spare.release()


async def test_it_is_said_once_when_none_are_left_and_once_when_some_are_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [False, True, True, True, False, False, True]
    lines: List[str] = []
    counters: "Counter[str]" = Counter()
    monkeypatch.setattr(descriptors, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(descriptors, "none_left", lambda: looks.pop(0))
    with pytest.raises(IndexError):
        await descriptors.watch(lines.append, counters)
    assert ["in use" in line for line in lines] == [True, False, True]
    assert "raise LimitNOFILE" in lines[0] and counters == {"descriptors_exhausted": 2}


@pytest.mark.parametrize("number, said", [(errno.EMFILE, 0), (errno.ENFILE, 0), (errno.ENOBUFS, 1)])
async def test_a_port_that_cannot_accept_is_tried_again_at_its_own_pace(
    monkeypatch: pytest.MonkeyPatch, number: int, said: int
) -> None:
    """And neither closed, as uvloop does, nor asked without end."""
    lines: List[str] = []
    made: "List[asyncio.BaseProtocol]" = []
    tries: List[int] = []
    slept: List[float] = []
    loop, waiting = asyncio.get_running_loop(), asyncio.Event()
    really = loop.sock_accept

    async def accept(sock: socket.socket) -> Any:
        tries.append(1)
        if len(tries) <= 3:
            raise OSError(number, os.strerror(number))
        return await really(sock)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await waiting.wait()

    def make() -> asyncio.BaseProtocol:
        made.append(asyncio.Protocol())
        return made[-1]

    monkeypatch.setattr(loop, "sock_accept", accept)
    acceptor = Acceptor(make, lines.append)
    port = await acceptor.listen("127.0.0.1", 0)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with socket.create_connection(("127.0.0.1", port)) as caller:
        caller.setblocking(False)
        for _ in range(100):
            await loop.run_in_executor(None, lambda: None)
        assert (len(tries), made) == (1, [])
        waiting.set()
        for _ in range(10_000):
            await loop.run_in_executor(None, lambda: None)
            if made:
                break
    assert slept == [accepting.RETRY_S] * 3 and len(made) == 1 and len(lines) == said
    await acceptor.close()


GREETING_IS_NO_DUTY = "from pamdi.daemon.link import Link; Link._no_greeting = lambda self: None"


def allocate(ear: Ear, epoch: int, load: bool) -> None:
    """All segments, or none."""
    if load:
        ear.allocate("d0", epoch)
    else:
        nothing = msgspec.json.encode(DeviceAllocation(epoch))
        ear.mqtt.publish(ear.topics.device("d0", "allocation/set"), nothing, 1, True)


@pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")
async def test_a_daemon_that_runs_out_of_them_says_so_answers_and_goes_on(tmp_path: Path) -> None:
    port = free_port()
    with running(start_mosquitto(tmp_path)) as broker, contextlib.ExitStack() as strangers:
        with limited(512):  # as a shell would start it
            # The strangers stay: with the first of them cut off, there would be descriptors again for a moment.
            daemon = Daemon(tmp_path, config_text(broker.url, tmp_path, port=port), before=GREETING_IS_NO_DUTY)
        strangers.callback(daemon.close)
        async with listening(broker.url) as ear, Client(BrokerConfig(broker.url), None, WAIT_S) as client:
            await ready(ear)
            soft, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
            assert soft == min(hard, descriptors.LIMIT_WANTED)
            open_now = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
            resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (open_now + 2, hard))
            for _ in range(20):
                strangers.enter_context(socket.create_connection(("127.0.0.1", port), WAIT_S))
            await daemon.says("file descriptors are in use: new connections wait: raise LimitNOFILE")
            answer = await client.submit("gate", {"image": images()})
            assert (answer.status, answer.detail) == ("answered", "")
            state, epoch = b"", 1
            while not state:  # an engine cannot be loaded now, unless just when the journal has one of its own in use
                allocate(ear, epoch + 1, False)
                allocate(ear, epoch + 2, True)
                epoch += 2
                assert epoch < 100, daemon.log()
                with contextlib.suppress(asyncio.TimeoutError):
                    state = await ear.until("pamdi/v1/device/d0/allocation/state", b'"broken"', 5.0)
            assert b"Too many open files" in state
            resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
            await daemon.says("there are file descriptors again")
            allocate(ear, epoch + 1, False)  # as the controller does, after a while
            allocate(ear, epoch + 2, True)
            assert (await client.submit("gate", {"image": images()})).status == "answered"
            with socket.create_connection(("127.0.0.1", port), WAIT_S) as caller:
                greeting = await asyncio.get_running_loop().run_in_executor(None, caller.recv, 100)
            assert b'"device":"d0"' in greeting
        assert daemon.process.poll() is None and "Traceback" not in daemon.log()
        assert daemon.log().count("in use") == 1
