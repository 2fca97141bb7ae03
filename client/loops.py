"""Named loops that live and die together: the first that ends, ends all. No half-alive process.

A task that is cancelled once may go on all the same: before Python 3.12 ``asyncio.wait_for`` forgets the cancellation
when what it waits for comes in the same turn, and an error while a connection is closed takes its place. Who waits for
such a task waits for ever, so it is cancelled again until it has ended; and whoever is told meanwhile to end itself,
does so after that, or the task would be left behind. ``within`` stands in the place of ``wait_for``, and forgets
nothing.
"""

import asyncio
from typing import Awaitable, Collection, Dict, Set, TypeVar

AGAIN_S = 5.0  # longer than what a loop does last takes: that is not to be cut short

T = TypeVar("T")


async def run_together(loops: Dict[str, Awaitable[None]]) -> None:
    """Run all until one returns or raises; cancel the others, wait for them, then raise what was raised."""
    tasks: Dict["asyncio.Future[None]", str] = {}
    for name, loop in loops.items():
        started = asyncio.ensure_future(loop)
        if isinstance(started, asyncio.Task):
            started.set_name(name)
        tasks[started] = name
    try:
        done: Set["asyncio.Future[None]"]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(tasks)
    for task in done:
        task.result()


async def within(seconds: float, what: "Awaitable[T]") -> T:
    """What comes of it, or asyncio.TimeoutError; it is cancelled when the time is up, and when we are."""
    waited = asyncio.ensure_future(what)
    late = True
    try:
        await asyncio.wait([waited], timeout=seconds)
        late = not waited.done()
    finally:
        if late:
            await end([waited])
    if late and waited.cancelled():
        raise asyncio.TimeoutError
    return waited.result()


async def whole(what: "Awaitable[T]") -> T:
    """What comes of what must not be cut short; a cancellation that comes meanwhile is heard after it."""
    task, told = asyncio.ensure_future(what), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            told = True
    if told and not task.cancelled() and task.exception() is None:
        raise asyncio.CancelledError
    return task.result()


async def end(tasks: "Collection[asyncio.Future[T]]") -> None:
    """Cancel all and wait until they have ended, with whatever outcome."""
    left, told = {task for task in tasks if not task.done()}, False
    while left:
        for task in left:
            task.cancel()
        try:
            _, left = await asyncio.wait(left, timeout=AGAIN_S)
        except asyncio.CancelledError:
            left, told = {task for task in left if not task.done()}, True
    for task in tasks:
        if not task.cancelled():
            task.exception()  # nobody else looks at what they raised
    if told:
        raise asyncio.CancelledError
