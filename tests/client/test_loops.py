"""Loops that live and die together, also when one of them overhears that it should die."""

import asyncio
from pathlib import Path
from typing import List

import pytest

from pamdi.client import loops
from pamdi.client.loops import end, run_together, whole, within
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


async def test_who_is_cancelled_while_ending_others_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when loops run in loops: those outside wait no longer than those inside before they cancel again."""
    ended: List[str] = []
    monkeypatch.setattr(loops, "AGAIN_S", 60.0)
    inner = asyncio.ensure_future(run_together({"deaf": overhears(ended)}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    inner.cancel()
    await asyncio.sleep(0.01)
    assert not inner.done() and ended == []
    inner.cancel()
    await asyncio.wait([inner], timeout=60.0)
    assert inner.cancelled() and ended == ["overheard"]


async def test_within_a_time_gives_what_comes_and_says_when_nothing_does() -> None:
    ended: List[str] = []
    assert await within(60.0, asyncio.sleep(0, "came")) == "came"
    with pytest.raises(ConfigError, match="the name is taken"):
        await within(60.0, fails())
    with pytest.raises(asyncio.TimeoutError):
        await within(0.01, for_ever(ended, "late"))
    assert ended == ["late"]


async def test_a_cancellation_that_comes_together_with_the_result_is_heard() -> None:
    result = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(within(60.0, result))
    await asyncio.sleep(0)
    result.set_result(None)
    await asyncio.sleep(0)  # so that what waits for the result has been told, and has not run yet
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()


async def test_so_is_one_that_comes_together_with_what_went_wrong() -> None:
    loop, complaints = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, said: complaints.append(said))
    result = loop.create_future()
    waiting = asyncio.ensure_future(within(60.0, result))
    await asyncio.sleep(0)
    result.set_exception(ConfigError("the name is taken"))
    waiting.cancel()
    await asyncio.wait([waiting])
    del result
    assert waiting.cancelled() and complaints == []


async def test_what_must_not_be_cut_short_is_not_and_the_cancellation_is_heard_after_it() -> None:
    done: List[str] = []

    async def goes() -> str:
        await asyncio.sleep(0.01)
        done.append("gone")
        return "came"

    assert await whole(goes()) == "came"
    task = asyncio.ensure_future(whole(goes()))
    await asyncio.sleep(0)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task], timeout=60.0)
    assert task.cancelled() and done == ["gone", "gone"]
    with pytest.raises(ConfigError, match="the name is taken"):
        await whole(fails())


def test_nothing_of_ours_waits_in_a_way_that_overhears() -> None:
    sources = (Path(__file__).parents[2] / "src/pamdi").glob("*/**/*.py")
    assert [str(path) for path in sources if "asyncio.wait_for(" in path.read_text()] == []
