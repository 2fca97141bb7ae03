"""The process beside the controller's loop: its answer, and how it ends."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from pamdi.controller import beside
from pamdi.controller.beside import SearchFailed, searched
from pamdi.controller.planning import Question, again, answer, searched_beside
from pamdi.controller.solver.moving import Terms
from pamdi.core.allocation import Plan
from tests.controller.solver.many import many
from tests.daemon.running import WAIT_S


def question() -> Question:
    none: "frozenset[str]" = frozenset()
    held = Plan("held", 0.0, None, {}, {})
    return Question(many(1), held, None, none, none, {}, "pa-mdi", "plan", "fast", Terms(), afresh=False)


def runs(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """In place of the search."""
    monkeypatch.setattr(beside, "COMMAND", (sys.executable, "-c", program))


def stuck(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """A search that never ends; the file says its process."""
    said = folder / "pid"
    program = f"import os, time; open({str(said)!r} + '-', 'w').write(str(os.getpid())); "
    runs(monkeypatch, program + f"os.rename({str(said)!r} + '-', {str(said)!r}); time.sleep(3600)")
    return said


def gone(said: Path) -> bool:
    try:
        os.kill(int(said.read_text()), 0)
    except ProcessLookupError:
        return True
    return False


async def _there(said: Path) -> None:
    while not said.exists():
        await asyncio.sleep(0.05)


async def test_the_process_finds_what_would_be_found_here() -> None:
    asked = question()
    assert searched_beside(asked)
    first = answer(asked).outcome.plan
    better = again(asked, first, afresh=True)
    found = await searched(better, lambda: True)
    assert found == answer(better)
    assert found is not None and found.weighed is not None and found.outcome.plan.objective < first.objective


async def test_a_search_that_is_not_wanted_any_more_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = stuck(monkeypatch, tmp_path)
    found = await asyncio.wait_for(searched(question(), lambda: not said.exists()), WAIT_S)
    assert found is None and gone(said)


async def test_who_is_cancelled_takes_the_search_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = stuck(monkeypatch, tmp_path)
    search = asyncio.ensure_future(searched(question(), lambda: True))
    await asyncio.wait_for(_there(said), WAIT_S)
    search.cancel()
    with pytest.raises(asyncio.CancelledError):
        await search
    assert gone(said)


@pytest.mark.parametrize(
    "program, why",
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGALRM)", f"not done after {beside.SEARCH_S_MAX} s"),
        ("raise MemoryError('no more')", "MemoryError: no more"),
        ("raise SystemExit(3)", "exit status 3"),
        ("print('nonsense')", "its answer cannot be read: "),
    ],
)
async def test_a_search_that_dies_is_one_line(monkeypatch: pytest.MonkeyPatch, program: str, why: str) -> None:
    runs(monkeypatch, program)
    with pytest.raises(SearchFailed) as failed:
        await asyncio.wait_for(searched(question(), lambda: True), WAIT_S)
    assert str(failed.value).startswith(why) and "\n" not in str(failed.value)


async def test_a_search_that_cannot_begin_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "COMMAND", ("/nowhere/python",))
    with pytest.raises(SearchFailed, match="/nowhere/python"):
        await searched(question(), lambda: True)
