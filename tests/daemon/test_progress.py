"""The watchdog is fed while the daemon makes progress: not when its loop, an engine or a load hangs, and not less while
an engine merely takes long."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List

import pytest

from pamdi.core import events as ev
from pamdi.daemon.progress import InHand, feed_watchdog, stuck
from tests.brokers import have_mosquitto, running, start_mosquitto
from tests.core.lone import UNIT_S, Lone, key, tensor
from tests.daemon.running import ROOT, WAIT_S, config_text, listening

IDLE = InHand(None, 0.0, None, True)


@pytest.mark.parametrize("now, why", [
    (IDLE, ""),
    (IDLE._replace(running_s=9.9), ""),
    (IDLE._replace(running_s=10.0), "a segment has been running for 10 s"),
    (IDLE._replace(running_s=70.0, run_s=4.0), ""),
    (IDLE._replace(running_s=80.0, run_s=4.0), "a segment has been running for 80 s"),
    (IDLE._replace(loading_s=599.0), ""),
    (IDLE._replace(loading_s=600.0), "an engine has been loading for 600 s"),
    (IDLE._replace(journal=False), "the journal's thread has ended"),
])  # fmt: skip
def test_what_hangs_is_told_from_what_takes_long(now: InHand, why: str) -> None:
    assert stuck(now) == why


def test_how_long_a_segment_takes_in_all_does_not_shrink_while_it_runs() -> None:
    """Patience is a multiple of it: with what is left, it would end when the calibrated time has."""
    stage = Lone(head="d1")
    stage.receive("d1", tensor(key("a")))
    compute = stage.device.placing.compute
    assert (compute.run_s(), compute.running_s()) == (UNIT_S, UNIT_S)
    stage.now = 10 * UNIT_S
    stage.feed(ev.Woken())
    assert (compute.run_s(), compute.running_s()) == (UNIT_S, 0.0)


async def test_it_is_fed_again_when_what_hung_has_ended_and_each_is_said_once() -> None:
    fed: List[int] = []
    lines: List[str] = []
    looks = [IDLE, *[IDLE._replace(running_s=99.0)] * 3, IDLE]

    def look() -> InHand:
        if not looks:
            raise EOFError
        return looks.pop(0)

    notifier: Any = SimpleNamespace(watchdog_s=0.003, watchdog=lambda: fed.append(len(looks)))
    with pytest.raises(EOFError):
        await feed_watchdog(notifier, look, lines.append)
    assert fed == [4, 0]
    assert lines == ["a segment has been running for 99 s: no watchdog until it ends", "the watchdog is fed again"]


HANGING = """
import sys, time
from pathlib import Path
from pamdi.core import device, events
from pamdi.daemon import main

handle = device.Device.handle
def hang(self, event, now):
    if isinstance(event, events.CancelAsked):
        print("hangs", flush=True)
        time.sleep(3600)
    return handle(self, event, now)
device.Device.handle = hang
main.run(Path(sys.argv[1]))
"""


@pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed")
async def test_a_handler_that_never_returns_starves_the_watchdog_of_a_real_daemon(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    config = tmp_path / "d0.toml"
    with running(start_mosquitto(tmp_path)) as broker, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WAIT_S)
        config.write_text(config_text(broker.url, tmp_path))
        environment = dict(
            os.environ, PYTHONPATH=str(ROOT / "src"), NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="300000"
        )
        process = subprocess.Popen([sys.executable, "-c", HANGING, str(config)], env=environment,
                                   stdout=subprocess.PIPE)  # fmt: skip
        try:
            async with listening(broker.url) as ear:
                while await loop.run_in_executor(None, manager.recv, 4096) != b"WATCHDOG=1":
                    pass
                ear.allocate("d0")
                await ear.until("pamdi/v1/device/d0/allocation/state", b'"ready"')
                ear.mqtt.publish("pamdi/v1/source/gate/cancel", b'{"id": "w1"}')
                assert process.stdout is not None
                assert await loop.run_in_executor(None, process.stdout.readline) == b"hangs\n"
                manager.setblocking(False)
                with pytest.raises(BlockingIOError):
                    while True:  # what was said before
                        manager.recv(4096)
                await asyncio.sleep(1.0)  # ten meals
                with pytest.raises(BlockingIOError):
                    manager.recv(4096)
        finally:
            process.kill()
            process.communicate()
