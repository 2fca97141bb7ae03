"""One rule for defects: whichever way an event came, what the core raises at it ends the daemon, and nothing is handled
after it."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

import pytest

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.errors import EngineError
from pamdi.core.limits import Limits
from pamdi.core.work import Key, WorkId
from pamdi.daemon.door import Door
from pamdi.daemon.recorder import Recorder
from tests.daemon.test_links import close, pair
from tests.daemon.test_no_half_alive import started

WAIT_S = 60.0


class Core:
    """Says what it is told to say; ``raises`` at events of that class."""

    def __init__(self) -> None:
        self.heard: List[Any] = []
        self.says: Callable[[Any], List[Any]] = lambda event: []
        self.wakes_at: Optional[float] = None
        self.raises: Optional[type] = None

    def handle(self, event: Any, now: float) -> List[Any]:
        self.heard.append(event)
        if type(event) is self.raises:
            raise ValueError("planted")
        return self.says(event)

    def wake_at(self) -> Optional[float]:
        return self.wakes_at


def made(recorder: Optional[Recorder] = None) -> "Tuple[Door, Core, asyncio.Future[None], List[str]]":
    core, said = Core(), []  # type: Core, List[str]
    broken = asyncio.get_running_loop().create_future()
    door = Door(core, lambda: None, broken, recorder, said.append)  # type: ignore[arg-type]
    return door, core, broken, said


async def test_what_comes_up_meanwhile_waits_until_all_instructions_are_done() -> None:
    door, core, _, _ = made()
    done: List[str] = []

    def do(note: ins.Note) -> None:
        done.append(note.counter)
        if note.counter == "a":
            door.happened(ev.StopAsked(1.0))

    door.doers = {ins.Note: do}
    core.says = lambda event: [ins.Note("a"), ins.Note("b")] if isinstance(event, ev.Woken) else [ins.Note("c")]
    door.happened(ev.Woken())
    assert done == ["a", "b", "c"]


async def test_a_defect_closes_the_door_and_is_not_thrown_at_whoever_came_with_the_event() -> None:
    door, core, broken, said = made()
    core.raises = ev.CancelAsked
    door.happened(ev.CancelAsked(WorkId("gate", "a")))
    door.happened(ev.Woken())
    door.from_thread(ev.Woken())
    await asyncio.sleep(0.01)
    assert [type(event) for event in core.heard] == [ev.CancelAsked]
    with pytest.raises(ValueError, match="planted"):
        await broken
    assert len(said) == 1 and said[0].startswith("a defect came to light at CancelAsked")


async def test_so_does_one_in_what_does_an_instruction_and_in_what_follows_an_event() -> None:
    for place in ("doer", "settled"):
        door, core, broken, _ = made()

        def fail(*_: Any) -> None:
            raise KeyError("planted")

        if place == "doer":
            door.doers = {ins.Note: fail}
            core.says = lambda event: [ins.Note("a"), ins.Note("b")]
        else:
            door._settled = fail
        door.happened(ev.Woken())
        with pytest.raises(KeyError):
            await broken


async def test_a_gpu_that_is_lost_ends_the_daemon_too_but_is_no_defect() -> None:
    door, core, broken, said = made()

    def fail(_: Any) -> None:
        raise EngineError("CUDA refuses: restart the daemon")

    door.doers = {ins.Note: fail}
    core.says = lambda event: [ins.Note("a")]
    door.happened(ev.Woken())
    with pytest.raises(EngineError):
        await broken
    assert said == []


async def test_a_defect_at_an_alarm_and_from_a_thread_is_heard_of() -> None:
    door, core, broken, _ = made()
    core.raises, core.wakes_at = ev.Woken, 0.0
    door.happened(ev.StopAsked(1.0))
    with pytest.raises(ValueError, match="planted"):
        await asyncio.wait_for(broken, WAIT_S)
    door, core, broken, _ = made()
    core.raises = ev.JournalWritten
    await asyncio.get_running_loop().run_in_executor(
        None, door.from_thread, ev.JournalWritten(WorkId("gate", "a"), False)
    )
    with pytest.raises(ValueError, match="planted"):
        await asyncio.wait_for(broken, WAIT_S)


async def test_a_defect_at_a_message_of_a_peer_leaves_its_link_open() -> None:
    """It is not the peer's fault, who would dial and say the same again."""
    door, core, broken, _ = made()
    a, b = await pair()
    a.links._on_event = door.happened
    core.raises = ev.Received
    b.links.send("a", ms.Taken(Key("gate", "w", 0, 0, 1)))
    with pytest.raises(ValueError, match="planted"):
        await asyncio.wait_for(broken, WAIT_S)
    assert list(a.links.counters()) == ["b"]
    await close(a, b)


async def test_what_makes_the_core_raise_is_the_last_line_of_the_record(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    door, core, broken, _ = made(Recorder(path, "d0", Limits(), print))
    core.raises = ev.CancelAsked
    door.happened(ev.Woken())
    door.happened(ev.CancelAsked(WorkId("gate", "a")))
    lines = path.read_text().splitlines()
    assert len(lines) == 3 and '"CancelAsked"' in lines[-1] and broken.exception() is not None


PLANT = """
import pamdi.core.device, pamdi.core.events
handle = pamdi.core.device.Device.handle
def planted(self, event, now):
    if isinstance(event, pamdi.core.events.Restored):
        raise IndexError("planted")
    return handle(self, event, now)
pamdi.core.device.Device.handle = planted
"""


def test_a_real_daemon_ends_with_what_was_raised_and_a_status_that_systemd_takes_for_a_failure(tmp_path: Path) -> None:
    process = started(tmp_path, PLANT, subprocess.STDOUT)
    assert process.stdout is not None
    try:
        said = process.communicate(timeout=WAIT_S)[0].decode()
    finally:
        process.kill()
    assert process.returncode == 1
    assert "a defect came to light at Restored" in said and "IndexError: planted" in said
