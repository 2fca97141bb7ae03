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
import time
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import msgspec

from pamdi.core.events import FinalRecord, JournalRefused, JournalWritten, OpenRecord, Restored
from pamdi.core.instructions import JournalAttempt, JournalFinal, JournalForget, JournalOpen
from pamdi.core.tensors import TensorSpec
from pamdi.core.work import Visit, WorkId
from pamdi.daemon.arrays import Payload, buffers, nbytes, payload_from, specs

SCHEMA = """
CREATE TABLE IF NOT EXISTS works (
    source TEXT, id TEXT, digest TEXT, at REAL, attempt INTEGER, gamma REAL, left_s REAL,
    status TEXT, reason TEXT, detail TEXT, latency_s REAL, path BLOB, delivered INTEGER, specs BLOB, data BLOB,
    PRIMARY KEY (source, id)
)
"""
QUEUE_MAX = 100_000
Record = Union[JournalOpen, JournalAttempt, JournalFinal, JournalForget, WorkId, None]


def boot_time() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Store:
    """One SQLite file. ``durable``: synced to the disk with every transaction. Raises sqlite3.Error."""

    def __init__(self, path: Path, durable: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        self._db.execute(SCHEMA)

    def close(self) -> None:
        self._db.close()

    def write(self, records: Sequence[Record]) -> None:
        """All of ``records``, or none."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for record in records:
                self._write_one(record)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def read(self, now: float) -> Restored:
        opened: List[OpenRecord] = []
        final: List[FinalRecord] = []
        for row in self._db.execute("SELECT * FROM works ORDER BY at"):
            source, id, digest, at, attempt, gamma, left_s, status, reason, detail, latency_s, path, told = row[:13]
            payload = _payload(row[13], row[14])
            size = nbytes(payload) if payload is not None else 0
            age_s = max(0.0, now - at)
            if status is None:
                left = None if left_s is None else left_s - age_s
                opened.append(OpenRecord(WorkId(source, id), digest, payload, size, attempt, age_s, gamma, left))
            else:
                visits = tuple(msgspec.msgpack.decode(path, type=List[Visit]))
                final.append(
                    FinalRecord(
                        WorkId(source, id),
                        digest,
                        status,
                        reason,
                        detail,
                        latency_s,
                        visits,
                        payload,
                        size,
                        bool(told),
                        age_s,
                    )  # fmt: skip
                )
        return Restored(tuple(opened), tuple(final))

    def _write_one(self, record: Record) -> None:
        run = self._db.execute
        if isinstance(record, JournalOpen):
            described, data = _columns(record.payload)
            run(
                "INSERT OR REPLACE INTO works VALUES (?,?,?,?,0,?,?,NULL,NULL,NULL,NULL,NULL,0,?,?)",
                (*record.work, record.digest, boot_time() - record.age_s, record.gamma, record.left_s, described, data),
            )
        elif isinstance(record, JournalAttempt):
            run("UPDATE works SET attempt=? WHERE source=? AND id=?", (record.attempt, *record.work))
        elif isinstance(record, JournalFinal):
            described, data = _columns(record.payload)
            path = msgspec.msgpack.encode(record.path)
            run(
                "INSERT OR REPLACE INTO works VALUES (?,?,?,?,0,NULL,NULL,?,?,?,?,?,0,?,?)",
                (*record.work, record.digest, boot_time(), record.status, record.reason, record.detail,
                 record.latency_s, path, described, data),
            )  # fmt: skip
        elif isinstance(record, JournalForget):
            run("DELETE FROM works WHERE source=? AND id=?", record.work)
        elif isinstance(record, WorkId):
            run("UPDATE works SET delivered=1 WHERE source=? AND id=?", record)


class Journal:
    """``on_event`` is called in the writer's thread; the owner passes it on to its loop, in order."""

    def __init__(
        self, runtime_dir: Path, state_dir: Path, on_event: Callable[[Any], None], log: Callable[[str], None]
    ) -> None:
        self._on_event, self._log = on_event, log
        self._memory = _open(runtime_dir / "journal.sqlite", durable=False, log=log)
        self._disk_path = state_dir / "journal.sqlite"
        self._disk = _open(self._disk_path, durable=True, log=log) if self._disk_path.exists() else None
        self._durable = set()  # type: ignore[var-annotated]
        self._queue: "queue.Queue[Tuple[Record, bool]]" = queue.Queue(QUEUE_MAX)
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
            batch = [self._queue.get()]
            while not self._queue.empty() and len(batch) < 256:
                batch.append(self._queue.get_nowait())
            ending = any(record is None for record, _ in batch)
            for durable in (False, True):
                records = [record for record, disk in batch if disk is durable and record is not None]
                if records:
                    self._commit(records, durable)

    def _commit(self, records: Sequence[Record], durable: bool) -> None:
        try:
            self._store(durable).write(records)
        except (sqlite3.Error, OSError) as error:
            if len(records) > 1:  # one that is too large must not take its neighbours down with it
                for record in records:
                    self._commit([record], durable)
                return
            self._tell(records[0], f"the journal cannot be written ({error}): make room")
            return
        for record in records:
            self._tell(record, None)

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
        elif problem is not None:
            self._log(problem)


def _open(path: Path, durable: bool, log: Callable[[str], None]) -> Store:
    """A damaged file is moved aside, with one line, and a new one begun."""
    try:
        store = Store(path, durable)
        store.read(boot_time())
        return store
    except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        path.rename(aside)
        log(f"{path}: damaged ({error}): moved to {aside.name}; works open in it are lost")
        return Store(path, durable)


def _columns(payload: Optional[Payload]) -> Tuple[Optional[bytes], Optional[bytes]]:
    if payload is None:
        return None, None
    return msgspec.msgpack.encode(specs(payload)), b"".join(buffers(payload))


def _payload(described: Optional[bytes], data: Optional[bytes]) -> Optional[Payload]:
    if described is None:
        return None
    return payload_from(msgspec.msgpack.decode(described, type=List[TensorSpec]), data)
