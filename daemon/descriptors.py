"""File descriptors, of which a process has only so many.

A daemon takes as many as it may have. Should they run out all the same (a fleet larger than the limit, a stranger who
opens connections, a leak), nothing spins, ends or forgets: connections that find none wait, and are tried again at
their own pace; the journal, for which SQLite opens a file in every transaction, has some in reserve; and one line says
what is the matter.
"""

import asyncio
import contextlib
import errno
import os
import resource
from typing import Callable, Counter, Iterator, List

LIMIT_WANTED = 65_536
LOOK_EVERY_S = 2.0
NONE_LEFT = (errno.EMFILE, errno.ENFILE)  # in the process, in the system


def raise_limit() -> None:
    """The soft limit is a habit of shells (1024); the hard one is what an administrator has set."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = LIMIT_WANTED if hard == resource.RLIM_INFINITY else min(LIMIT_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def none_left() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in NONE_LEFT
    return False


async def watch(log: Callable[[str], None], counters: "Counter[str]") -> None:
    """For ever: a line when none are left, and one when some are again."""
    short = False
    while True:
        was, short = short, none_left()
        if short and not was:
            counters["descriptors_exhausted"] += 1
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            log(
                f"all {limit} file descriptors are in use: new connections wait: raise LimitNOFILE, or see what holds "
                f"them in /proc/{os.getpid()}/fd"
            )
        elif was and not short:
            log("there are file descriptors again")
        await asyncio.sleep(LOOK_EVERY_S)


class Spare:
    """Descriptors that are kept for what must not fail."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: List[int] = []
        self.take()

    def take(self) -> None:
        """Those that are lacking, as far as there are any."""
        with contextlib.suppress(OSError):
            while len(self._held) < self._count:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def release(self) -> None:
        while self._held:
            os.close(self._held.pop())

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """For the duration, others may have them; whoever asks first, so be quick."""
        self.release()
        try:
            yield
        finally:
            self.take()
