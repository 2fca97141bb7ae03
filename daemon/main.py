"""``pamdi daemon``: uvloop, signals, and the question whether somebody else already is this device."""

import asyncio
import contextlib
import fcntl
import os
import signal
import threading
import time
from pathlib import Path
from typing import Callable, Iterator

import uvloop

from pamdi.client.claim import Claim
from pamdi.client.log_line import log_line
from pamdi.client.loops import run_together
from pamdi.core.errors import ConfigError
from pamdi.core.topics import Topics
from pamdi.daemon.config import DaemonConfig, read_config
from pamdi.daemon.descriptors import raise_limit
from pamdi.daemon.engine_room import THREADS
from pamdi.daemon.lookups import THREAD
from pamdi.daemon.service import Service


def run(config_file: Path) -> int:
    """Serve until SIGTERM or SIGINT. Raises PamdiError: one line, nothing has begun."""
    config = read_config(config_file)
    raise_limit()
    uvloop.install()
    asyncio.run(_serve(config, log_line))
    _leave_threads_behind()
    return 0


def _leave_threads_behind() -> None:
    """Python would wait for them: an engine that loads or is pulled may take an hour, a driver may never come back, and
    a name server may be silent. All that must be kept is written, and the others have heard that we are gone."""
    if any(thread.name.startswith((*THREADS, THREAD)) for thread in threading.enumerate()):
        os._exit(0)


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
    with _alone_in(Path(config.runtime_dir)):
        await _service(config, claim, log)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two daemons in one folder would share a journal; without a broker nothing else tells them of each other."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: {error.strerror}: check runtime_dir") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"{folder}: another daemon works in it: give this one another runtime_dir") from error
        yield


async def _service(config: DaemonConfig, claim: Claim, log: Callable[[str], None]) -> None:
    service = Service(config, log, claim)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stop)
    await service.run()
