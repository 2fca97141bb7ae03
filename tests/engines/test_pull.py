"""Pulling from a real server process, through connections that break, into a store that takes nothing altered."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from pamdi.core.errors import EngineError
from pamdi.core.events import EngineFailed, EngineLoaded
from pamdi.core.instructions import Load
from pamdi.core.segment import Segment
from pamdi.daemon.config import DaemonConfig
from pamdi.daemon.engine_room import EngineRoom
from pamdi.daemon.puller import puller
from pamdi.engines.manifest import read_manifest
from pamdi.engines.open_backend import open_backend
from pamdi.engines.pull import Origin, fetch, pull_segment
from pamdi.engines.store import Store

pytest.importorskip("aiohttp", reason="the server needs aiohttp")

KEPT = Path(__file__).parent / "store" / "resnet56-digits"
MODEL = "resnet56-digits"
LAST = Segment(MODEL, 3, 4)
DIGEST = read_manifest(KEPT).segment(3, 4).sha256
SIZE = (KEPT / "0003-0004.onnx").stat().st_size


@pytest.fixture
def served(tmp_path: Path) -> Path:
    shutil.copytree(KEPT, tmp_path / "served" / MODEL)
    return tmp_path / "served"


@pytest.fixture
def server(served: Path) -> Iterator[int]:
    """The port of a real `pamdi engines serve` process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "pamdi", "engines", "serve", str(served), "--host", "127.0.0.1", "--port"]
    process = subprocess.Popen([*command, str(port)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == f"serving {MODEL} at http://127.0.0.1:{port}\n"
    yield port
    process.terminate()
    process.wait()
    process.stderr.close()


class Cutting:
    """A way to the server that breaks each of its first connections after so many bytes of answer."""

    def __init__(self, port: int, after: List[int]) -> None:
        self._to, self._after = port, after
        self.requests: List[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                with near, socket.create_connection(("127.0.0.1", self._to)) as far:
                    request = near.recv(65536)
                    self.requests.append(request)
                    far.sendall(request)
                    left = self._after.pop(0) if self._after else 1 << 60
                    while left > 0:
                        data = far.recv(min(left, 65536))
                        if not data:
                            break
                        near.sendall(data)
                        left -= len(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextlib.contextmanager
def cutting(port: int, *after: int) -> Iterator[Cutting]:
    way = Cutting(port, list(after))
    try:
        yield way
    finally:
        way.close()


def origin(url: str, **changes: Any) -> Origin:
    return Origin(url, retry_delay_s=0.0, **changes)


def pull(origin: Origin, root: Path, segment: Segment = LAST, digest: str = DIGEST) -> None:
    pull_segment(origin, root, segment, digest, "onnxruntime", "orin-nano", lambda line: None)


def test_a_segment_is_pulled_with_its_manifest_and_nothing_else(server: int, tmp_path: Path) -> None:
    pull(origin(f"http://127.0.0.1:{server}"), tmp_path)
    files = {path.name for path in (tmp_path / MODEL).iterdir()}
    assert files == {"0003-0004.onnx", "model.json", "objects", "pulled.json"}
    open_backend("onnxruntime").load(tmp_path / MODEL, LAST)


def test_a_cut_connection_is_resumed_where_it_was_cut(server: int, tmp_path: Path) -> None:
    with cutting(server, 100_000, 50_000) as way:
        store = Store(tmp_path / MODEL)
        fetch(origin(way.url), store, DIGEST)
        asked = [line for request in way.requests for line in request.split(b"\r\n") if line.startswith(b"Range:")]
    assert store.path(DIGEST).read_bytes() == (KEPT / "0003-0004.onnx").read_bytes()
    firsts = [int(line.split(b"=")[1].strip(b"-")) for line in asked]
    assert len(firsts) == 2 and 90_000 < firsts[0] < 100_000 and firsts[0] + 40_000 < firsts[1] < SIZE
    assert [path.name for path in store.objects.iterdir()] == [DIGEST]


def test_what_was_fetched_outlives_the_process(server: int, tmp_path: Path) -> None:
    store = Store(tmp_path / MODEL)
    with cutting(server, 100_000, 0, 0) as way:
        with pytest.raises(EngineError, match=r"bytes are here: check the server and the network; the next load"):
            fetch(origin(way.url, attempts_max=2), store, DIGEST)
        kept = (store.objects / f"{DIGEST}.part").stat().st_size
        fetch(origin(way.url), store, DIGEST)
        assert f"Range: bytes={kept}-".encode() in way.requests[-1] and kept > 90_000
    assert store.has(DIGEST)


def test_altered_content_is_refused_and_not_placed(served: Path, server: int, tmp_path: Path) -> None:
    with open(served / MODEL / "0003-0004.onnx", "r+b") as file:
        file.seek(1000)
        file.write(b"altered")
    with pytest.raises(EngineError, match=rf"sha256/{DIGEST}: altered: its sha256 is") as error:
        pull(origin(f"http://127.0.0.1:{server}"), tmp_path)
    assert "\n" not in str(error.value)
    assert [path for path in (tmp_path / MODEL).rglob("*") if path.is_file() and path.stat().st_size] == []


def test_what_is_not_there_or_not_wanted_or_too_large_is_refused_in_one_line(server: int, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server}"
    for where, segment, digest, says in (
        (origin(url), LAST, "0" * 64, r"holds resnet56-digits 3:4 as .* wanted is .* as 000000000000"),
        (origin(url), Segment("other", 0, 1), DIGEST, r"model/other/model.json: 404 Not Found"),
        (origin(url), Segment(MODEL, 0, 3), DIGEST, r"no segment 0:3 here"),
        (origin(url, store_bytes_max=1000), LAST, DIGEST, r"may hold 1000 bytes and holds 0"),
        (origin("http://127.0.0.1:9", attempts_max=2), LAST, DIGEST, r"Connection refused"),
        (origin(url, trusted_keys=("A" * 43 + "=",)), LAST, DIGEST, r"signed by none of trusted_keys"),
    ):
        with pytest.raises(EngineError, match=says) as error:
            pull(where, tmp_path, segment, digest)
        assert "\n" not in str(error.value)
    assert not (tmp_path / MODEL / "model.json").exists()


def test_a_damaged_file_is_pulled_again_and_a_whole_one_is_not(server: int, tmp_path: Path) -> None:
    with cutting(server) as way:
        pull(origin(way.url), tmp_path)
        asked = len(way.requests)
        pull(origin(way.url), tmp_path)
        assert len(way.requests) == asked
        os.truncate(tmp_path / MODEL / "0003-0004.onnx", 5)
        pull(origin(way.url), tmp_path)
        assert len(way.requests) == asked + 1
    open_backend("onnxruntime").load(tmp_path / MODEL, LAST)


@pytest.mark.parametrize("reachable", [True, False])
async def test_a_daemon_that_lacks_a_segment_pulls_it_before_it_loads(
    server: int, tmp_path: Path, reachable: bool
) -> None:
    url = f"http://127.0.0.1:{server}" if reachable else "http://127.0.0.1:9/nowhere"
    config = DaemonConfig("d0", "orin-nano", str(tmp_path / "device"), store_url=url if reachable else "")
    events: "asyncio.Queue[Any]" = asyncio.Queue()
    said: List[str] = []
    pull = puller(config, said.append)
    room = EngineRoom(open_backend("onnxruntime"), tmp_path / "device", events.put_nowait, said.append, pull)
    room.load(Load(LAST, DIGEST, 1000))
    event = await asyncio.wait_for(events.get(), 120.0)
    room.close()
    assert isinstance(event, EngineLoaded if reachable else EngineFailed)
    assert len(said) == int(reachable)
