"""One SQLite file of the journal: its records, and how it stays usable when the disk is full.

A full disk must refuse new works and still let old ones end, or it would stay full for ever. So changes are made in
place, with SQLite's small rollback journal (a write-ahead log would grow with every record, deletions too), and a
reserve lies beside the file: it is given up for a moment when an end or a deletion finds no room, and while it cannot
be taken back no new work is let in.
"""

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple, Union

import msgspec
from msgspec.structs import astuple

from pamdi.core.errors import BadInput, ConfigError
from pamdi.core.events import FinalRecord, OpenRecord, Restored
from pamdi.core.instructions import JournalAttempt, JournalFinal, JournalForget, JournalOpen
from pamdi.core.tensors import TensorSpec
from pamdi.core.work import Visit, WorkId
from pamdi.daemon.arrays import Payload, buffers, nbytes, payload_from, specs
from pamdi.daemon.descriptors import Spare

SCHEMA = """
CREATE TABLE IF NOT EXISTS works (
    source TEXT, id TEXT, digest TEXT, at REAL, attempt INTEGER, gamma REAL, left_s REAL,
    status TEXT, reason TEXT, detail TEXT, latency_s REAL, path BLOB, delivered INTEGER, specs BLOB, data BLOB,
    PRIMARY KEY (source, id)
)
"""
RESERVE_BYTES = 256 * 1024  # what the rollback journal of one record needs, several times over
SPARE_DESCRIPTORS = 2  # the rollback journal, and the folder that is synced with it
LOCKED_S_MAX = 5.0  # for a process that is about to let go of the file
SLACK_PAGES = 4  # for what is not payload
Record = Union[JournalOpen, JournalAttempt, JournalFinal, JournalForget, WorkId, None]


def boot_time() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Reserve:
    """A file whose room can be had back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = path.exists() and path.stat().st_size == RESERVE_BYTES

    def take(self) -> bool:
        """Whether the room is ours, now."""
        if not self._taken:
            try:
                with self._path.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
                self._taken = True
            except OSError:
                self.release()
        return self._taken

    def release(self) -> None:
        self._taken = False
        with contextlib.suppress(OSError):
            self._path.unlink()


class Store:
    """One SQLite file. ``durable``: synced to the disk with every transaction. Raises sqlite3.Error."""

    def __init__(self, path: Path, durable: bool, patience_s: float = LOCKED_S_MAX) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._reserve = Reserve(path.with_suffix(".reserve"))
        self._reserve.take()
        self._db = sqlite3.connect(str(path), patience_s, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=TRUNCATE")
        self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        self._db.execute(SCHEMA)
        self._spare = Spare(SPARE_DESCRIPTORS)
        self.path, self._file = path, _file_at(path)

    def gone(self) -> bool:
        """Whether somebody has removed or replaced the file; SQLite then takes no more changes."""
        return self._file is None or _file_at(self.path) != self._file

    def take_over(self, old: "Store") -> int:
        """All that is in ``old``. Its file may have been removed: it lives as long as somebody has it open. Returns
        how many works that is."""
        old._db.backup(self._db)
        (count,) = self._db.execute("SELECT COUNT(*) FROM works").fetchone()
        return int(count)

    def close(self) -> None:
        self._db.close()
        self._spare.release()

    def write(self, records: Sequence[Record]) -> None:
        """All of ``records``, or none. Raises sqlite3.OperationalError when there is no room for them."""
        opens = any(isinstance(record, JournalOpen) for record in records)
        if opens and not self._reserve.take():
            raise sqlite3.OperationalError("database or disk is full")
        try:
            self._transact(records)
        except sqlite3.OperationalError:
            if opens and not self._fits_inside(records):
                raise
            self._reserve.release()
            try:
                self._transact(records)
            finally:
                self._reserve.take()

    def _fits_inside(self, records: Sequence[Record]) -> bool:
        """Whether pages that were freed hold all of it, so that the file need not grow."""
        (pages,), (page_bytes,) = (
            self._db.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_size")
        )  # fmt: skip
        wanted = sum(nbytes(record.payload) for record in records if isinstance(record, JournalOpen))
        return bool(wanted + SLACK_PAGES * page_bytes <= pages * page_bytes)

    def _transact(self, records: Sequence[Record]) -> None:
        self._spare.take()
        try:
            self._try(records)
        except sqlite3.OperationalError as error:
            if "unable to open" not in str(error):
                raise
            with self._spare.lent():
                self._try(records)

    def _try(self, records: Sequence[Record]) -> None:
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
                (
                    *astuple(record.work),
                    record.digest,
                    boot_time() - record.age_s,
                    record.gamma,
                    record.left_s,
                    described,
                    data,
                ),
            )
        elif isinstance(record, JournalAttempt):
            run("UPDATE works SET attempt=? WHERE source=? AND id=?", (record.attempt, *astuple(record.work)))
        elif isinstance(record, JournalFinal):
            described, data = _columns(record.payload)
            path = msgspec.msgpack.encode(record.path)
            run(
                "INSERT OR REPLACE INTO works VALUES (?,?,?,?,0,NULL,NULL,?,?,?,?,?,0,?,?)",
                (*astuple(record.work), record.digest, boot_time(), record.status, record.reason, record.detail,
                 record.latency_s, path, described, data),
            )  # fmt: skip
        elif isinstance(record, JournalForget):
            run("DELETE FROM works WHERE source=? AND id=?", astuple(record.work))
        elif isinstance(record, WorkId):
            run("UPDATE works SET delivered=1 WHERE source=? AND id=?", astuple(record))


def _file_at(path: Path) -> Optional[Tuple[int, int]]:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def open_store(path: Path, durable: bool, log: Callable[[str], None], patience_s: float = LOCKED_S_MAX) -> Store:
    """A damaged file is moved aside, with one line, and a new one begun; one that cannot be opened at present (no
    room, no right, no folder) stays as it is. Raises ConfigError for the latter."""
    try:
        try:
            store = Store(path, durable, patience_s)
            store.read(boot_time())
            return store
        except sqlite3.OperationalError as error:
            raise ConfigError(f"{path}: {error}: make room there, or check the folder's owner") from error
        except (sqlite3.DatabaseError, msgspec.DecodeError, ValueError, TypeError, BadInput) as error:
            aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
            path.rename(aside)
            log(f"{path}: damaged ({error}): moved to {aside.name}; works open in it are lost")
            return Store(path, durable)
    except OSError as error:
        raise ConfigError(f"{error.filename or path}: {error.strerror}: check runtime_dir and state_dir") from error


def _columns(payload: Optional[Payload]) -> Tuple[Optional[bytes], Optional[bytes]]:
    if payload is None:
        return None, None
    return msgspec.msgpack.encode(specs(payload)), b"".join(buffers(payload))


def _payload(described: Optional[bytes], data: Optional[bytes]) -> Optional[Payload]:
    if described is None:
        return None
    return payload_from(msgspec.msgpack.decode(described, type=List[TensorSpec]), data)
