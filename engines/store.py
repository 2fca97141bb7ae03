"""A model's folder as a store: content-addressed, whole at every moment, bounded, and safe with two writers.

    DIR/model.json            the manifest: names, digests, what everything is
    DIR/0000-0001.onnx, ...   names for objects: hard links, so that an object takes its place once
    DIR/objects/<sha256>      the objects: immutable, each under the digest of its content

A writer adds objects (each written under a hidden name, flushed, then renamed), and at the end publishes: under a lock,
names are linked and the manifest replaced, last. Whoever is killed on the way leaves objects that nobody names, and
files half written under hidden names, which the next sweep removes; a full disk leaves the store as it was. Two writers
add side by side, since an object with the same name is the same object, and publish one after the other: the second
one's manifest stands, whole. A sweep waits for no one: while another writer is adding, it is left to that writer.
"""

import contextlib
import fcntl
import hashlib
import os
import re
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, Optional, Set, Tuple, Union

from pamdi.core.errors import EngineError
from pamdi.engines.manifest import (
    FILE,
    HALF,
    OBJECTS,
    Manifest,
    manifest_of,
    read_manifest,
    sha256_of,
    write_durably,
    write_manifest,
)

ADDING, PUBLISHING = ".adding", ".publishing"  # lock files, in objects/
PART = ".part"  # an object that is still being fetched
PULLED = "pulled.json"  # says that this folder holds what was needed here, not everything that its manifest names

Change = Tuple[Union[Manifest, bytes], Dict[str, str]]


class Store:
    """``bytes_max``: of all objects together; None: as much as the disk holds."""

    def __init__(self, folder: Path, bytes_max: Optional[int] = None) -> None:
        self.folder, self.objects = folder, folder / OBJECTS
        self._bytes_max = bytes_max

    def path(self, sha256: str) -> Path:
        return self.objects / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def used_bytes(self) -> int:
        try:
            return sum(entry.stat().st_size for entry in os.scandir(self.objects) if _is_object(entry.name))
        except FileNotFoundError:
            return 0

    @contextlib.contextmanager
    def adding(self) -> Iterator[None]:
        """While objects are added that no manifest names yet: nobody sweeps them away. Raises EngineError for what
        the disk refuses."""
        with _told(self.folder):
            self.objects.mkdir(parents=True, exist_ok=True)
            with open(self.objects / ADDING, "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH)
                yield

    def add(self, blocks: Iterable[bytes]) -> Tuple[str, int]:
        """Keep the object that ``blocks`` are; its digest and size. Raises EngineError where it does not fit."""
        temporary = self.objects / f".{os.getpid()}-{id(blocks)}"
        digest, size = hashlib.sha256(), 0
        used = self.used_bytes()
        with _told(self.folder):
            try:
                with open(temporary, "wb") as file:
                    for block in blocks:
                        size += len(block)
                        self.check_room(used, size)
                        digest.update(block)
                        file.write(block)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.path(digest.hexdigest()))  # also over one that was damaged
            finally:
                with contextlib.suppress(FileNotFoundError):
                    temporary.unlink()
        return digest.hexdigest(), size

    def check_room(self, used_bytes: int, size_bytes: int) -> None:
        """Raises EngineError where ``size_bytes`` more than ``used_bytes`` are too many."""
        if self._bytes_max is not None and used_bytes + size_bytes > self._bytes_max:
            raise EngineError(
                f"{self.folder}: the store may hold {self._bytes_max} bytes and holds {used_bytes}; at least "
                f"{size_bytes} more are needed: remove a model, or raise the bound"
            )

    def publish(
        self, change: Callable[[Optional[Manifest]], Tuple[Union[Manifest, bytes], Dict[str, str]]]
    ) -> Manifest:
        """Put in place what ``change`` makes of the manifest that is there (None: none that can be read): the new one
        (bytes: a document that is sealed already), and {file name: sha256} of objects that get names. Nobody else
        publishes in between. Returns what stands there now."""
        with self._publishing():
            before = self.manifest()
            manifest, names = change(before)
            for name, sha256 in names.items():
                self._link(name, sha256)
            written = _write(self.folder, manifest)
            for name in (_names(before) if before is not None else set()) - _names(written):
                with contextlib.suppress(FileNotFoundError):
                    (self.folder / name).unlink()
            return written

    def manifest(self) -> Optional[Manifest]:
        try:
            return read_manifest(self.folder)
        except EngineError:
            return None

    def sweep(self) -> int:
        """Remove objects that the manifest does not name, unless somebody is adding. Returns how many went."""
        if not self.objects.is_dir():
            return 0
        with _told(self.folder), open(self.objects / ADDING, "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return 0
            manifest = self.manifest()
            keep = {ADDING, PUBLISHING, *(named_by(manifest) if manifest else ())}
            gone = [entry for entry in os.scandir(self.objects) if entry.name.partition(PART)[0] not in keep]
            for entry in gone if manifest is not None else ():
                os.unlink(entry.path)
            for path in self.folder.glob(".*-*"):
                if _left_by_the_dead(path):
                    path.unlink()
            return len(gone)

    @contextlib.contextmanager
    def _publishing(self) -> Iterator[None]:
        with _told(self.folder):
            self.objects.mkdir(parents=True, exist_ok=True)
            with open(self.objects / PUBLISHING, "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield

    def _link(self, name: str, sha256: str) -> None:
        """Let ``name`` be the object; a copy where the file system has no hard links."""
        temporary = self.folder / f".{name}-{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        try:
            os.link(self.path(sha256), temporary)
        except OSError:
            import shutil

            shutil.copyfile(self.path(sha256), temporary)
        os.replace(temporary, self.folder / name)  # does nothing where both are links to one file
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _write(folder: Path, manifest: Union[Manifest, bytes]) -> Manifest:
    if isinstance(manifest, Manifest):
        return write_manifest(folder, manifest)
    known = manifest_of(manifest, str(folder / FILE))
    write_durably(folder / FILE, manifest)
    return known


def named_by(manifest: Manifest) -> Dict[str, str]:
    """{digest: file, relative to the model's folder} of everything that the manifest names."""
    files = {info.sha256: info.onnx for info in manifest.segments}
    files.update({info.sha256: info.file for info in manifest.engines})
    files.update({info.sha256: f"{OBJECTS}/{info.sha256}" for info in manifest.weights})
    if manifest.half:
        files[manifest.half] = HALF
    return files


def _names(manifest: Manifest) -> Set[str]:
    """Files beside the manifest. Two may be the same object."""
    files = {info.onnx for info in manifest.segments} | {info.file for info in manifest.engines}
    return files | {HALF} if manifest.half else files


def file_with(folder: Path, manifest: Manifest, sha256: str) -> Optional[Path]:
    """Where the store has the object, by any name; None where it does not. Its content is not checked."""
    path = folder / OBJECTS / sha256
    if path.is_file():
        return path
    name = named_by(manifest).get(sha256)
    return folder / name if name is not None and (folder / name).is_file() else None


def is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _left_by_the_dead(path: Path) -> bool:
    """Whether ``path`` is a hidden file of a writer that is gone: ``.NAME-PID``."""
    found = re.match(r"\..+-(\d+)$", path.name)
    if found is None or not path.is_file():
        return False
    try:
        os.kill(int(found.group(1)), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _is_object(name: str) -> bool:
    return not name.startswith(".")


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EngineError(f"{folder}: {error.strerror}: make room or choose another folder") from error
