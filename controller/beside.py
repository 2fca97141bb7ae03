"""A search of seconds beside the controller's loop: one process that is asked once, over its pipes, and ends.

A process and not a thread, because the search is Python and would hold up every heartbeat; because it can be ended at
once; and because memory that it cannot get is then its own trouble. What goes over the pipes is MessagePack of typed
values. Its priority is low: whoever shares this machine with the controller goes first.
"""

import asyncio
import contextlib
import os
import signal
import sys
from typing import Callable, List, Optional

import msgspec

from pamdi.client.loops import end
from pamdi.controller.planning import Answer, Question, answer

COMMAND = (sys.executable, "-m", "pamdi.controller.beside")
SEARCH_S_MAX = 240  # a stuck one: the solver has its own limits
LOOK_EVERY_S = 0.1
NICER = 10
SAID_BYTES_MAX = 2000  # of what a process that failed has said


class SearchFailed(Exception):
    """One line for people."""


async def searched(question: Question, wanted: Callable[[], bool]) -> Optional[Answer]:
    """What the search found; None as soon as it is not ``wanted`` any more. Raises SearchFailed."""
    found: List[Answer] = []
    search = asyncio.ensure_future(_ask(question, found))
    try:
        while not search.done():
            if not wanted():
                return None
            await asyncio.wait({search}, timeout=LOOK_EVERY_S)
        search.result()
    finally:
        await end([search])
    return found[0]


async def _ask(question: Question, into: List[Answer]) -> None:
    pipe = asyncio.subprocess.PIPE
    try:
        # A session of its own: who presses Ctrl-C in a terminal means the controller.
        process = await asyncio.create_subprocess_exec(
            *COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
    except OSError as error:
        raise SearchFailed(str(error)) from error
    try:
        found, said = await process.communicate(msgspec.msgpack.encode(question))
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        raise SearchFailed(_why(process.returncode, said))
    try:
        into.append(msgspec.msgpack.decode(found, type=Answer))
    except msgspec.DecodeError as error:
        raise SearchFailed(f"its answer cannot be read: {error}") from error


def _why(code: int, said: bytes) -> str:
    if code == -signal.SIGALRM:
        return f"not done after {SEARCH_S_MAX} s"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    lines = said[-SAID_BYTES_MAX:].decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), f"exit status {code}")


def main() -> None:
    """The process: a question from standard input, its answer to standard output."""
    with contextlib.suppress(OSError):  # where a service may not
        os.nice(NICER)
    signal.alarm(SEARCH_S_MAX)
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.msgpack.encode(answer(question)))


if __name__ == "__main__":
    main()
