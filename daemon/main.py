"""``pamdi daemon``: uvloop, signals, and the question whether somebody else already is this device."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Callable

import uvloop

from pamdi.client.loops import run_together
from pamdi.client.mqtt import Connection
from pamdi.core.errors import ConfigError
from pamdi.core.topics import Topics
from pamdi.daemon.config import DaemonConfig, read_config
from pamdi.daemon.service import Service

ASK_S = 1.0


def log_line(line: str) -> None:
    """journald adds the time; a person who runs it by hand sees the line."""
    print(line, file=sys.stderr, flush=True)


def run(config_file: Path) -> int:
    """Serve until SIGTERM or SIGINT. Raises PamdiError: one line, nothing has begun."""
    config = read_config(config_file)
    uvloop.install()
    asyncio.run(_serve(config, log_line))
    return 0


async def _serve(config: DaemonConfig, log: Callable[[str], None]) -> None:
    await _refuse_a_twin(config)
    service = Service(config, log)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stop)
    await service.run()


async def _refuse_a_twin(config: DaemonConfig) -> None:
    """Ask, under another client id, whether a living device has this id. Silence (or no broker yet) means no."""
    topics = Topics(config.broker.prefix)
    heard = asyncio.Event()

    def told(topic: str, payload: bytes, retained: bool) -> None:
        parsed = topics.parse(topic)
        if parsed is not None and parsed.leaf == "alive/tell" and not retained:
            heard.set()

    connection = Connection(config.broker, f"pamdi-{config.id}-ask-{os.getpid()}", told)
    connection.subscribe(topics.device(config.id, "alive/tell"))

    async def ask() -> None:
        try:
            await asyncio.wait_for(connection.connected.wait(), ASK_S)
            connection.publish(topics.device(config.id, "alive/ask"), b"?", 1)
            await asyncio.wait_for(heard.wait(), ASK_S / 2)
        except asyncio.TimeoutError:
            return

    await run_together({"broker": connection.run(), "ask": ask()})
    if heard.is_set():
        raise ConfigError(f"device {config.id} is already running somewhere: give this one another id in daemon.toml")
