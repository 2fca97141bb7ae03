"""The journal keeps its word: what it reported as written is there after any death of the process."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import numpy as np
import pytest

from pamdi.core.errors import ConfigError
from pamdi.core.events import JournalRefused, JournalWritten, Restored
from pamdi.core.instructions import JournalAttempt, JournalFinal, JournalForget, JournalOpen
from pamdi.core.work import Visit, WorkId
from pamdi.daemon import journal as journal_module
from pamdi.daemon import journal_store
from pamdi.daemon.journal import Journal
from pamdi.daemon.journal_store import open_store
from tests.daemon.test_descriptors import none_left

ROOT = Path(__file__).resolve().parents[2]
PATH = (Visit(0, 2, "a", 0.1, 0.2, 0.0), Visit(2, 3, "b", 0.0, 0.1, 0.05))


def work(id: str) -> WorkId:
    return WorkId("gate", id)


def opened(id: str, durable: bool = False, count: int = 4, left_s: Optional[float] = None) -> JournalOpen:
    payload = {"x": np.arange(count, dtype="float32"), "mask": np.array([True, False])}
    return JournalOpen(work(id), f"digest of {id}", payload, 0.0, 2.0, left_s, durable)


def ended(id: str, durable: bool = False) -> JournalFinal:
    payload = {"logits": np.ones((1, 3), "float32")}
    return JournalFinal(work(id), f"digest of {id}", "answered", "", "", 0.25, PATH, payload, durable)


class Life:
    """One life of a process with a journal."""

    def __init__(self, folder: Path) -> None:
        self.events: List[Any] = []
        self.lines: List[str] = []
        self.journal = Journal(folder / "run", folder / "state", self.events.append, self.lines.append)
        self.restored: Restored = self.journal.restore()
        self.journal.start()

    def put(self, *records: Any) -> "Life":
        for record in records:
            self.journal.put(record)
        return self

    def end(self) -> "Life":
        self.journal.stop()
        return self


def restored(folder: Path) -> Restored:
    return Life(folder).end().restored


@pytest.mark.parametrize("durable", [False, True])
def test_an_open_work_comes_back_whole(tmp_path: Path, durable: bool) -> None:
    life = Life(tmp_path).put(opened("w1", durable, left_s=5000.0), JournalAttempt(work("w1"), 2)).end()
    assert life.events == [JournalWritten(work("w1"), False)]
    (record,) = restored(tmp_path).open
    assert (record.work, record.digest, record.attempt, record.gamma) == (work("w1"), "digest of w1", 2, 2.0)
    assert record.nbytes == 18
    assert np.array_equal(record.payload["x"], np.arange(4, dtype="float32"))
    assert record.payload["mask"].tolist() == [True, False]
    assert 0 <= record.age_s < 600
    assert record.left_s is not None
    assert 4000.0 < record.left_s <= 5000.0


@pytest.mark.parametrize("durable", [False, True])
def test_an_end_replaces_the_input_and_comes_back_with_its_path(tmp_path: Path, durable: bool) -> None:
    life = Life(tmp_path).put(opened("w1", durable), ended("w1", durable)).end()
    assert life.events == [JournalWritten(work("w1"), False), JournalWritten(work("w1"), True)]
    back = restored(tmp_path)
    assert back.open == ()
    (record,) = back.final
    assert (record.status, record.latency_s, record.path, record.delivered) == ("answered", 0.25, PATH, False)
    assert record.payload["logits"].tolist() == [[1.0, 1.0, 1.0]]


def test_an_end_goes_where_its_work_is_though_the_source_has_become_durable(tmp_path: Path) -> None:
    Life(tmp_path).put(opened("w1", durable=False), ended("w1", durable=True)).end()
    Life(tmp_path).put(opened("w2", durable=True), ended("w2", durable=False)).end()
    back = restored(tmp_path)
    assert back.open == ()
    assert sorted(record.work.id for record in back.final) == ["w1", "w2"]


def test_a_failure_has_no_outputs(tmp_path: Path) -> None:
    failed = JournalFinal(work("w1"), "d", "failed", "deadline", "too late", 1.0, (), None, False)
    Life(tmp_path).put(opened("w1"), failed).end()
    (record,) = restored(tmp_path).final
    assert (record.status, record.reason, record.detail, record.payload) == ("failed", "deadline", "too late", None)


@pytest.mark.parametrize("durable", [False, True])
def test_what_was_delivered_is_known_as_delivered_even_a_life_later(tmp_path: Path, durable: bool) -> None:
    Life(tmp_path).put(opened("w1", durable), ended("w1", durable)).end()
    Life(tmp_path).put(work("w1")).end()
    assert [record.delivered for record in restored(tmp_path).final] == [True]


@pytest.mark.parametrize("durable", [False, True])
def test_what_is_forgotten_does_not_come_back(tmp_path: Path, durable: bool) -> None:
    Life(tmp_path).put(opened("w1", durable), opened("w2", durable)).end()
    Life(tmp_path).put(JournalForget(work("w1"))).end()
    assert [record.work.id for record in restored(tmp_path).open] == ["w2"]


def test_a_clock_that_went_back_makes_no_age_negative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Life(tmp_path).put(opened("w1", True, left_s=5.0), opened("w2"), ended("w2")).end()
    for module in (journal_module, journal_store):
        monkeypatch.setattr(module, "boot_time", lambda: 1.0)  # as after a reboot
    back = restored(tmp_path)
    assert [record.age_s for record in back.open] == [0.0]
    assert [record.age_s for record in back.final] == [0.0]


def test_a_full_disk_refuses_the_work_and_later_takes_the_next(tmp_path: Path) -> None:
    life = Life(tmp_path).put(opened("small")).end()
    life = Life(tmp_path)
    database = life.journal._memory._db
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count={pages + 4}")
    life.put(opened("large", count=200_000), opened("also small"))
    wait_for(life, 2)
    database.execute("PRAGMA max_page_count=1000000")
    life.put(opened("next", count=200_000)).end()
    verdicts = {event.work.id: type(event) for event in life.events}
    assert verdicts == {"large": JournalRefused, "also small": JournalWritten, "next": JournalWritten}
    assert {record.work.id for record in restored(tmp_path).open} == {"small", "also small", "next"}


def wait_for(life: Life, events: int) -> None:
    deadline = time.monotonic() + 60
    while len(life.events) < events:
        assert time.monotonic() < deadline, life.events
        time.sleep(0.005)


@pytest.mark.parametrize("file", ["run/journal.sqlite", "state/journal.sqlite"])
def test_a_damaged_file_is_moved_aside_with_one_line(tmp_path: Path, file: str) -> None:
    Life(tmp_path).put(opened("w1"), opened("w2", True)).end()
    (tmp_path / file).write_bytes(b"not a database " * 1000)
    life = Life(tmp_path).put(opened("w3")).end()
    assert len(life.lines) == 1
    assert "moved" in life.lines[0]
    assert len(life.restored.open) == 1
    assert life.events == [JournalWritten(work("w3"), False)]
    assert "w3" in {record.work.id for record in restored(tmp_path).open}


@pytest.mark.parametrize("durability", ["memory", "disk"])
@pytest.mark.parametrize("seed", range(3))
def test_what_was_reported_written_survives_a_kill_at_any_moment(tmp_path: Path, durability: str, seed: int) -> None:
    command = [sys.executable, "-m", "tests.daemon.journal_writer", str(tmp_path / "run"), str(tmp_path / "state")]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT / "src"), str(ROOT)]))
    writer = subprocess.Popen([*command, durability], stdout=subprocess.PIPE, env=environment, cwd=str(ROOT))
    assert writer.stdout is not None
    drawn = random.Random(seed)
    said: List[bytes] = []
    for _ in range(drawn.randint(1, 300)):  # a moment counted in records, so that a slow machine kills no test
        line = next(line for line in writer.stdout if line.startswith(b"written"))
        said.append(line)
    time.sleep(drawn.uniform(0.0, 0.01))
    writer.send_signal(signal.SIGKILL)
    said += writer.stdout.read().splitlines(keepends=True)
    writer.wait()
    writer.stdout.close()
    told = [line.decode().split() for line in said if line.endswith(b"\n")]
    told = [line for line in told if line[0] == "written"]  # a writer that floods is refused, and promised nothing
    assert told
    back = restored(tmp_path)
    final = {record.work.id: record for record in back.final}
    present: Dict[str, Any] = {**{record.work.id: record for record in back.open}, **final}
    missing = [id for _, id, kind in told if id not in present or (kind == "final" and id not in final)]
    assert missing == [], f"seed {seed}"
    wrong = [id for id, record in present.items() if record.payload["x"].tolist() != [int(id)] * 500]
    assert wrong == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def verdict(life: Life, record: Any) -> bool:
    """Whether it has been written."""
    before = len(life.events)
    life.put(record)
    wait_for(life, before + 1)
    return isinstance(life.events[-1], JournalWritten)


def test_on_a_full_disk_works_end_are_remembered_and_make_room_for_the_next(small_disk: Path) -> None:
    """New works are refused; the ends of old ones are written, and the room that they free is used again."""
    life = Life(small_disk)
    ids: List[str] = []
    while verdict(life, opened(f"w{len(ids)}", count=3000)):
        ids.append(f"w{len(ids)}")
    assert len(ids) > 20 and "make room" in life.events[-1].detail
    assert all(verdict(life, ended(id)) for id in ids)
    back = Life(small_disk)  # as after a kill: the first life has not closed its file
    assert (back.restored.open, {record.work.id for record in back.restored.final}) == ((), set(ids))
    back.put(*(JournalForget(work(id)) for id in ids))
    assert verdict(back, opened("next", count=3000)) and life.lines == back.lines == []
    back.end()
    life.end()


def test_a_disk_that_somebody_else_fills_loses_no_work(small_disk: Path) -> None:
    life = Life(small_disk)
    assert verdict(life, opened("w1", count=3000))
    with (small_disk / "foreign").open("wb", buffering=0) as foreign, contextlib.suppress(OSError):
        while True:
            foreign.write(bytes(4096))
    assert not verdict(life, opened("w2", count=3000)) and verdict(life, ended("w1"))
    life.end()
    again = Life(small_disk)
    assert [record.work.id for record in again.restored.final] == ["w1"]
    (small_disk / "foreign").unlink()
    assert verdict(again, opened("w3", count=3000))
    again.end()


@pytest.mark.parametrize("folder", ["run", "state"])
def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).write_text("not a folder")
    if folder == "state":  # needed only for sources that ask for the disk: their works are refused
        life = Life(tmp_path)
        assert not verdict(life, opened("w1", True)) and verdict(life, opened("w2"))
        life.end()
        return
    with pytest.raises(ConfigError, match="check runtime_dir and state_dir") as error:
        Life(tmp_path)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_opened_at_present_is_not_taken_for_damaged(tmp_path: Path) -> None:
    """Here another process holds it; a disk without room for SQLite's own files is the same to us."""
    Life(tmp_path).put(opened("w1")).end()
    holder = sqlite3.connect(str(tmp_path / "run" / "journal.sqlite"), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ConfigError, match="locked"):
        open_store(tmp_path / "run" / "journal.sqlite", False, print, patience_s=0.1)
    holder.execute("ROLLBACK")
    holder.close()
    assert [record.work.id for record in restored(tmp_path).open] == ["w1"]


def test_a_record_that_cannot_be_stored_is_refused_and_the_next_one_is_written(tmp_path: Path) -> None:
    life = Life(tmp_path)
    assert not verdict(life, opened("\ud800"))  # no such text in SQLite: an error of another kind
    assert verdict(life, opened("w1"))
    life.end()


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_journal_that_is_removed_while_it_is_written_is_begun_anew(tmp_path: Path, what: str, durable: bool) -> None:
    """With all that was in it: a kill after that forgets nothing. New works are let in."""
    life = Life(tmp_path)
    for record in (opened("open", durable), opened("ends", durable), opened("ended", durable), ended("ended", durable)):
        assert verdict(life, record)
    life.put(JournalAttempt(work("open"), 2), work("ended"))
    assert verdict(life, opened("last", durable))
    remove(tmp_path / ("state" if durable else "run"), what)
    assert verdict(life, ended("ends", durable)) and verdict(life, opened("after", durable))
    assert [line.partition(": ")[2] for line in life.lines] == ["a new one is begun, with the 4 works that were in it"]
    back = restored(tmp_path)  # as after a kill
    life.end()
    assert {(r.work.id, r.attempt) for r in back.open} == {("open", 2), ("last", 0), ("after", 0)}
    assert {(r.work.id, r.delivered) for r in back.final} == {("ended", True), ("ends", False)}
    assert all(np.array_equal(r.payload["x"], np.arange(4, dtype="float32")) for r in back.open)


def test_a_journal_that_is_removed_while_nothing_is_written_is_begun_anew_too(tmp_path: Path) -> None:
    life = Life(tmp_path)
    assert verdict(life, opened("w1")) and verdict(life, opened("w2", True))
    for folder in ("run", "state"):
        remove(tmp_path / folder, "file")
    deadline = time.monotonic() + 60
    while len(life.lines) < 2:
        assert time.monotonic() < deadline, life.lines
        time.sleep(0.005)
    back = restored(tmp_path)
    life.end()
    assert {record.work.id for record in back.open} == {"w1", "w2"}


def remove(folder: Path, what: str) -> None:
    if what == "file":
        (folder / "journal.sqlite").unlink()
    else:
        # At once: while it is emptied, the journal may begin anew in it.
        shutil.rmtree(folder.rename(folder.with_name("removed")))


def test_what_is_durable_is_synced_with_every_transaction_and_what_is_on_tmpfs_is_not(tmp_path: Path) -> None:
    life = Life(tmp_path)
    assert verdict(life, opened("w1", True)) and life.journal._disk is not None
    modes = [store._db.execute("PRAGMA synchronous").fetchone() for store in (life.journal._disk, life.journal._memory)]
    life.end()
    assert modes == [(2,), (0,)]  # FULL and OFF


def test_a_process_without_file_descriptors_still_writes_its_journal(tmp_path: Path) -> None:
    """SQLite opens a file in every transaction."""
    life = Life(tmp_path)
    assert verdict(life, opened("w1")) and verdict(life, opened("w2", True))
    with none_left():
        wrote = [verdict(life, record) for record in (ended("w1"), ended("w2", True), opened("w3"), opened("w4", True))]
    assert wrote == [True] * 4
    life.end()
    back = restored(tmp_path)
    assert {r.work.id for r in back.open} == {"w3", "w4"} and {r.work.id for r in back.final} == {"w1", "w2"}
