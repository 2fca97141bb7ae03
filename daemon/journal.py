"""The head's journal: inputs of admitted works, and their ends, in SQLite, which knows how to survive a kill.

Two files with one schema: ``memory`` in the runtime directory (tmpfs: survives the process, not the power; SQLite
need not sync) and ``disk`` in the state directory (survives both; synced once per group of records). One thread
writes; everything that waits when it comes round goes into one transaction.

Ages must survive the process, so records carry the clock of the boot (CLOCK_BOOTTIME), which a wall clock set late
cannot move; after a reboot it is smaller than what was recorded, and the age counts from the restart.
"""

import queue
import sqlite3
import threading
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Set, Tuple

from pamdi.core.events import JournalRefused, JournalWritten, Restored
from pamdi.core.instructions import JournalFinal, JournalForget, JournalOpen
from pamdi.core.work import WorkId
from pamdi.daemon.descriptors import none_left
from pamdi.daemon.journal_store import Record, Store, boot_time, open_store

QUEUE_MAX = 100_000
GROUP_MAX = 256  # records in one transaction
LOOK_EVERY_S = 1.0  # whether the files are still there


class Journal:
    """``on_event`` is called in the writer's thread; the owner passes it on to its loop, in order. Raises ConfigError
    when a folder cannot be used."""

    def __init__(
        self, runtime_dir: Path, state_dir: Path, on_event: Callable[[Any], None], log: Callable[[str], None]
    ) -> None:
        self._on_event, self._log = on_event, log
        self._memory = open_store(runtime_dir / "journal.sqlite", durable=False, log=log)
        self._disk_path = state_dir / "journal.sqlite"
        self._disk = open_store(self._disk_path, durable=True, log=log) if self._disk_path.exists() else None
        self._durable: Set[WorkId] = set()
        self._queue: "queue.Queue[Tuple[Record, bool]]" = queue.Queue(QUEUE_MAX)
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def restore(self) -> Restored:
        """What an earlier life left, from both files; where both know a work, the one that ended it is right."""
        now = boot_time()
        memory = self._memory.read(now)
        if self._disk is None:
            return memory
        disk = self._disk.read(now)
        ended = {record.work for record in memory.final + disk.final}
        self._durable = {record.work for record in disk.open + disk.final}
        opened = tuple(record for record in memory.open + disk.open if record.work not in ended)
        return Restored(opened, memory.final + disk.final)

    def start(self) -> None:
        self._thread.start()

    def put(self, record: Record) -> None:
        """Queue an instruction (or a WorkId: its end was delivered)."""
        durable = getattr(record, "durable", False)
        if record is not None and not durable:
            work = record if isinstance(record, WorkId) else record.work
            durable = work in self._durable
        elif durable:
            self._durable.add(record.work)  # type: ignore[union-attr]
        if isinstance(record, JournalForget):
            self._durable.discard(record.work)
        try:
            self._queue.put_nowait((record, durable))
        except queue.Full:
            self._tell(record, "the journal cannot keep up")

    def alive(self) -> bool:
        """Whether somebody still writes what is put here."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Write what waits, then end."""
        self._queue.put((None, False))
        self._thread.join(timeout=10.0)
        self._memory.close()
        if self._disk is not None:
            self._disk.close()

    def _run(self) -> None:
        ending = False
        while not ending:
            batch = self._next_batch()
            ending = any(record is None for record, _ in batch)
            for durable in (False, True):
                records = [record for record, disk in batch if disk is durable and record is not None]
                if records:
                    self._commit(records, durable)

    def _next_batch(self) -> List[Tuple[Record, bool]]:
        """What waits. While nothing does, a file that was removed is noticed all the same: the next death may come
        before the next record."""
        while True:
            try:
                batch = [self._queue.get(timeout=LOOK_EVERY_S)]
            except queue.Empty:
                for durable in (False, True):
                    self._begun_anew(durable)
                continue
            while not self._queue.empty() and len(batch) < GROUP_MAX:
                batch.append(self._queue.get_nowait())
            return batch

    def _commit(self, records: Sequence[Record], durable: bool) -> None:
        try:
            self._store(durable).write(records)
        except Exception as error:  # a record that cannot be stored, for whatever reason, must not end the thread
            if self._begun_anew(durable):
                self._commit(records, durable)
                return
            if len(records) > 1:  # one that is too large must not take its neighbours down with it
                for record in records:
                    self._commit([record], durable)
                return
            cure = "raise LimitNOFILE" if none_left() else "make room"
            self._tell(records[0], f"the journal cannot be written ({error}): {cure}")
            return
        for record in records:
            self._tell(record, None)
        self._said = ""

    def _begun_anew(self, durable: bool) -> bool:
        """A file that was removed under us (somebody cleared the folder) is made again, with all that was in it: else
        nothing would be admitted until a restart, which would forget all that is open."""
        old = self._disk if durable else self._memory
        if old is None or not old.gone():
            return False
        try:
            new = Store(old.path, durable)
        except (OSError, sqlite3.Error):
            return False
        try:
            fate = f"with the {new.take_over(old)} works that were in it"
        except sqlite3.Error as error:
            fate = f"works open until now would not survive a kill ({error})"
        self._log(f"{old.path} was removed: a new one is begun, {fate}")
        if durable:
            self._disk = new
        else:
            self._memory = new
        old.close()
        return True

    def _store(self, durable: bool) -> Store:
        if not durable:
            return self._memory
        if self._disk is None:
            self._disk = Store(self._disk_path, durable=True)
        return self._disk

    def _tell(self, record: Record, problem: Optional[str]) -> None:
        if isinstance(record, (JournalOpen, JournalFinal)):
            final = isinstance(record, JournalFinal)
            self._on_event(
                JournalWritten(record.work, final) if problem is None else JournalRefused(record.work, final, problem)
            )
        elif problem is not None and problem != self._said:
            self._said = problem  # once, and not for each of thousands of records
            self._log(problem)
