"""Named loops that live and die together: the first that ends, ends all. No half-alive process."""

import asyncio
from typing import Awaitable, Dict, Set


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
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
