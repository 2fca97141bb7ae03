"""Loops that live and die together, also when one of them overhears that it should die."""

import asyncio
from typing import List

import pytest

from pamdi.client import loops
from pamdi.client.loops import end, run_together
from pamdi.core.errors import ConfigError


async def for_ever(ended: List[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


async def fails() -> None:
    raise ConfigError("the name is taken")


async def overhears(ended: List[str]) -> None:
    """What ``asyncio.wait_for`` did before Python 3.12, if what it waited for came in the same turn."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await for_ever(ended, "overheard")


async def test_the_first_that_ends_ends_all_and_says_why() -> None:
    ended: List[str] = []
    with pytest.raises(ConfigError, match="the name is taken"):
        await run_together({"a": for_ever(ended, "a"), "b": for_ever(ended, "b"), "c": fails()})
    assert sorted(ended) == ["a", "b"]


async def test_who_overhears_the_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: List[str] = []
    monkeypatch.setattr(loops, "AGAIN_S", 0.01)
    with pytest.raises(ConfigError, match="the name is taken"):
        await asyncio.wait_for(run_together({"deaf": overhears(ended), "c": fails()}), 60.0)
    assert ended == ["overheard"]


async def test_what_a_cancelled_task_still_has_to_do_is_not_cut_short() -> None:
    said: List[str] = []

    async def closes() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            said.append("flushed")

    task = asyncio.ensure_future(closes())
    await asyncio.sleep(0)
    await end([task])
    assert said == ["flushed"] and task.cancelled()
