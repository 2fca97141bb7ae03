"""``pamdi daemon``: uvloop, signals, and the question whether somebody else already is this device."""

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Callable

import uvloop

from pamdi.client.claim import Claim
from pamdi.client.loops import run_together
from pamdi.core.topics import Topics
from pamdi.daemon.config import DaemonConfig, read_config
from pamdi.daemon.service import Service


def log_line(line: str) -> None:
    """journald adds the time; a person who runs it by hand sees the line."""
    print(line, file=sys.stderr, flush=True)


def run(config_file: Path) -> int:
    """Serve until SIGTERM or SIGINT. Raises PamdiError: one line, nothing has begun."""
    config = read_config(config_file)
    uvloop.install()
    asyncio.run(_serve(config, log_line))
    return 0


def claim_of(config: DaemonConfig) -> Claim:
    topics = Topics(config.broker.prefix)
    return Claim(
        config.broker, f"pamdi-{config.id}", topics.device(config.id, "alive/ask"),
        topics.device(config.id, "alive/tell"), time.time_ns(),
        f"device {config.id} is already running somewhere: give this one another id in daemon.toml",
    )  # fmt: skip


async def _serve(config: DaemonConfig, log: Callable[[str], None]) -> None:
    claim = claim_of(config)
    await run_together({"claim": claim.keep(), "service": _when_free(config, claim, log)})


async def _when_free(config: DaemonConfig, claim: Claim, log: Callable[[str], None]) -> None:
    await claim.free()
    service = Service(config, log, claim)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stop)
    await service.run()
