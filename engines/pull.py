"""Pulling a segment from a served store: by digest, resumed where it was cut, checked before it is placed.

Device side. What is fetched grows in ``objects/<sha256>.part``, which outlives the connection and the process, so that
a cut costs what was on its way and no more. A whole part whose digest is not its name is thrown away and refused. The
manifest is fetched when the one here does not know the segment, and is kept byte for byte, for its signatures' sake.
"""

import contextlib
import fcntl
import http.client
import os
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import msgspec

from pamdi.core.errors import EngineError
from pamdi.core.segment import Segment
from pamdi.engines.manifest import FILE, HALF, Manifest, manifest_of, read_manifest, sha256_of, write_durably
from pamdi.engines.store import PART, PULLED, Store, file_with, is_whole

MANIFEST_BYTES_MAX = 64 * 2**20
BLOCK_BYTES = 1 << 18
STORE_BYTES_MAX = 16 * 2**30


class Origin(NamedTuple):
    """A served store and how patient to be with it. ``attempts_max``: in a row, none of which brought a byte;
    ``pull_s_max``: for one object with all its attempts; ``store_bytes_max``: of all models here together."""

    url: str
    ca_file: Optional[str] = None
    trusted_keys: Tuple[str, ...] = ()
    timeout_s: float = 20.0
    attempts_max: int = 6
    retry_delay_s: float = 1.0
    pull_s_max: float = 3600.0
    store_bytes_max: int = STORE_BYTES_MAX


def pull_segment(
    origin: Origin, root: Path, segment: Segment, digest: str, backend: str, device_type: str,
    log: Callable[[str], None],
) -> None:  # fmt: skip
    """Make ``segment`` present under ``root``: its ONNX file ``digest`` with the weights that it reads, or for the back
    end ``tensorrt`` the engines of this device type; and ``half.json`` with either. Fetches nothing that is here.
    Raises EngineError."""
    folder = root / segment.model
    manifest, data = _manifest(origin, folder, segment, digest, (backend, device_type))
    elsewhere = sum(Store(other.parent).used_bytes() for other in root.glob(f"*/{FILE}") if other.parent != folder)
    store = Store(folder, max(0, origin.store_bytes_max - elsewhere))
    needed = _needed(manifest, segment, backend, device_type)
    absent = [sha256 for sha256 in needed if not _here(folder, manifest, sha256)]
    if not absent and data is None:
        return
    with store.adding():
        for sha256 in absent:
            log(f"{segment}: pulling {sha256[:12]} from {origin.url}")
            fetch(origin, store, sha256)
        names = {name: sha256 for sha256, name in needed.items() if name is not None and store.has(sha256)}
        store.publish(lambda before: (data if data is not None else (folder / FILE).read_bytes(), names))
        write_durably(folder / PULLED, msgspec.json.encode({"from": origin.url}))
    store.sweep()


def fetch(origin: Origin, store: Store, sha256: str) -> None:
    """Bring the object into ``store.objects``. Raises EngineError when it cannot be had, or is another."""
    url = f"{origin.url.rstrip('/')}/sha256/{sha256}"
    part = store.path(sha256 + PART)
    store.objects.mkdir(parents=True, exist_ok=True)
    with open(part, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another puller of the same object waits, and then finds it
        if not store.has(sha256) or not is_whole(store.path(sha256), sha256):
            _until_whole(origin, store, url, file)
            found = sha256_of(part)
            if found != sha256:
                part.unlink()
                raise EngineError(f"{url}: altered: its sha256 is {found[:12]}: export or build it again there")
            os.fsync(file.fileno())
            os.replace(part, store.path(sha256))
    with contextlib.suppress(FileNotFoundError):
        part.unlink()


def _until_whole(origin: Origin, store: Store, url: str, file: Any) -> None:
    """Attempts until the whole object is in ``file``, each from where the last one was cut."""
    until, failed = time.monotonic() + origin.pull_s_max, 0
    while True:
        before = file.seek(0, 2)
        try:
            _attempt(origin, store, url, file)
            return
        except (OSError, http.client.HTTPException) as error:
            file.flush()
            now = file.seek(0, 2)
            failed = 0 if now > before else failed + 1
            if failed >= origin.attempts_max or time.monotonic() > until:
                raise EngineError(
                    f"{url}: {error or type(error).__name__}, {now} bytes are here: check the server and the network; "
                    "the next load resumes"
                ) from error
            time.sleep(origin.retry_delay_s)


def _attempt(origin: Origin, store: Store, url: str, file: Any) -> None:
    """One request for what is missing. Raises OSError where it was cut."""
    have = file.seek(0, 2)
    with _open(origin, url, {"Range": f"bytes={have}-"} if have else {}) as response:
        if response.status == 200 and have:  # a server that knows no ranges
            file.truncate(0)
            have = 0
        elif response.status == 206 and _first_byte(response) != have:
            raise OSError(f"asked for byte {have}, got {response.headers.get('Content-Range')}")
        length = int(response.headers.get("Content-Length") or -1)
        if length < 0:
            raise EngineError(f"{url}: the server does not say how long it is: use `pamdi engines serve`")
        store.check_room(max(0, store.used_bytes() - have), have + length)
        left = length
        while left:
            block = response.read(min(left, BLOCK_BYTES))
            if not block:
                raise OSError("the connection was cut")
            file.write(block)
            left -= len(block)
    file.flush()


def _first_byte(response: Any) -> int:
    said = str(response.headers.get("Content-Range", ""))
    return int(said.partition(" ")[2].partition("-")[0] or -1)


@contextlib.contextmanager
def _open(origin: Origin, url: str, headers: Dict[str, str]) -> Any:
    """The response. Raises EngineError for what no retry mends, OSError for the rest."""
    if not url.startswith(("http://", "https://")):
        raise EngineError(f"store_url {origin.url!r}: write http://HOST:PORT or https://HOST:PORT")
    try:
        context = ssl.create_default_context(cafile=origin.ca_file) if url.startswith("https") else None
    except OSError as error:
        raise EngineError(f"{origin.ca_file}: {error.strerror}: mend store_ca_file") from error
    request = urllib.request.Request(url, headers=headers)
    try:
        with contextlib.closing(urllib.request.urlopen(request, timeout=origin.timeout_s, context=context)) as response:
            yield response
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500:
            raise OSError(f"{error.code} {error.reason}") from error
        if error.code == 416:  # no object grows: what is here is something else
            raise EngineError(f"{url}: the part here is longer than the object: remove it and load again") from error
        raise EngineError(f"{url}: {error.code} {error.reason}: export or build it there") from error


def _manifest(
    origin: Origin, folder: Path, segment: Segment, digest: str, kind: Tuple[str, str]
) -> Tuple[Manifest, Optional[bytes]]:
    """The manifest that knows ``segment`` as ``digest``: the one here, else the server's with its bytes; the server's
    too where the one here has no engine of this ``kind`` (back end, device type) for it, and the server's has."""
    here: Optional[Manifest] = None
    with contextlib.suppress(EngineError):
        here = read_manifest(folder, origin.trusted_keys)
        if here.segment(segment.first, segment.stop).sha256 != digest and digest:
            here = None
        elif _has_engine(here, segment, *kind):
            return here, None
    try:
        manifest, data = _served(origin, segment, digest)
    except EngineError:
        if here is None:
            raise
        return here, None  # what is here is good, as far as it goes
    return (here, None) if here is not None and not _has_engine(manifest, segment, *kind) else (manifest, data)


def _has_engine(manifest: Manifest, segment: Segment, backend: str, device_type: str) -> bool:
    """Whether there is something to load; back ends that run the ONNX file need no more than that."""
    return bool(set(_needed(manifest, segment, backend, device_type)) - {manifest.half})


def _served(origin: Origin, segment: Segment, digest: str) -> Tuple[Manifest, bytes]:
    url = f"{origin.url.rstrip('/')}/model/{segment.model}/{FILE}"
    data = _small(origin, url)
    manifest = manifest_of(data, url, origin.trusted_keys)
    found = manifest.segment(segment.first, segment.stop).sha256
    if manifest.model != segment.model or digest not in ("", found):
        raise EngineError(
            f"{url}: holds {manifest.model} {segment.first}:{segment.stop} as {found[:12]}, wanted is {segment} as "
            f"{digest[:12]}: serve the export that the controller uses"
        )
    return manifest, data


def _small(origin: Origin, url: str) -> bytes:
    for attempt in range(1, origin.attempts_max + 1):
        try:
            with _open(origin, url, {}) as response:
                data: bytes = response.read(MANIFEST_BYTES_MAX + 1)
            if len(data) > MANIFEST_BYTES_MAX:
                raise EngineError(f"{url}: more than {MANIFEST_BYTES_MAX} bytes: that is no manifest of ours")
            return data
        except (OSError, http.client.HTTPException) as error:
            if attempt == origin.attempts_max:
                raise EngineError(f"{url}: {error}: check store_url, the server and the network") from error
            time.sleep(origin.retry_delay_s)
    raise AssertionError("attempts_max is at least 1")


def _needed(manifest: Manifest, segment: Segment, backend: str, device_type: str) -> Dict[str, Optional[str]]:
    """{digest: file name, None for a weight} of what the back end loads for ``segment``."""
    info = manifest.segment(segment.first, segment.stop)
    needed: Dict[str, Optional[str]] = {manifest.half: HALF} if manifest.half else {}
    if backend == "tensorrt":
        for engine in manifest.engines:
            if (engine.first, engine.stop, engine.device_type) == (segment.first, segment.stop, device_type):
                needed[engine.sha256] = engine.file
        return needed
    needed.update({manifest.weights[number].sha256: None for number in info.weights})
    return {**needed, info.sha256: info.onnx}


def _here(folder: Path, manifest: Manifest, sha256: str) -> bool:
    path = file_with(folder, manifest, sha256)
    return path is not None and is_whole(path, sha256)
