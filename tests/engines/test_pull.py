"""Pulling from a real server process, through connections that break, into a store that takes nothing altered."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from pamdi.cli.main import main
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
from pamdi.engines.seal import private_key, public_text
from pamdi.engines.store import Store
from tests.brokers import free_port

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


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[int]:
    """The port of a real `pamdi engines serve` process."""
    port = free_port()
    command = [sys.executable, "-m", "pamdi", "engines", "serve", str(folder), "--host", "127.0.0.1", "--port"]
    process = subprocess.Popen([*command, str(port), *options], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        scheme = "https" if options else "http"
        assert process.stderr.readline() == f"serving {MODEL} at {scheme}://127.0.0.1:{port}\n"
        yield port
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


@pytest.fixture
def server(served: Path) -> Iterator[int]:
    with serving(served) as port:
        yield port


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


def test_a_segment_is_pulled_with_its_manifest_and_nothing_else(
    server: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pull(origin(f"http://127.0.0.1:{server}"), tmp_path)
    files = {path.name for path in (tmp_path / MODEL).iterdir()}
    assert files == {"0003-0004.onnx", "model.json", "objects", "pulled.json"}
    open_backend("onnxruntime").load(tmp_path / MODEL, LAST)
    assert main(["engines", "list", str(tmp_path), "--json"]) == 0
    states = [file["state"] for file in json.loads(capsys.readouterr().out)["models"][0]["files"]]
    assert states == ["not pulled", "not pulled", "not pulled", "good"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_over_https_the_servers_certificate_is_checked(served: Path, tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / "key.pem"),
         "-out", str(tmp_path / "cert.pem")], check=True, capture_output=True,
    )  # fmt: skip
    with serving(served, "--cert", str(tmp_path / "cert.pem"), "--key", str(tmp_path / "key.pem")) as port:
        url = f"https://127.0.0.1:{port}"
        with pytest.raises(EngineError, match="CERTIFICATE_VERIFY_FAILED"):
            pull(origin(url, attempts_max=1), tmp_path / "device")
        pull(origin(url, ca_file=str(tmp_path / "cert.pem")), tmp_path / "device")
    assert (tmp_path / "device" / MODEL / "0003-0004.onnx").stat().st_size == SIZE


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


def pull_plan(origin: Origin, root: Path) -> None:
    pull_segment(origin, root, LAST, DIGEST, "tensorrt", "orin-nano", lambda line: None)


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of engines that the fake TensorRT made, for an orin-nano."""
    pytest.importorskip("onnx", reason="the fake TensorRT builds with it")
    from tests.tensorrt.fake_backend import with_engines

    return shutil.copytree(with_engines(KEPT), tmp_path_factory.mktemp("plans") / MODEL).parent


def test_a_plan_is_pulled_by_digest_without_its_onnx_file_resumed_where_it_was_cut_and_loads(
    plans: Path, tmp_path: Path
) -> None:
    from pamdi.engines.tensorrt_backend import TensorRTBackend
    from tests.tensorrt.fake_backend import BINDINGS, DEVICE
    from tests.tensorrt.host_memory import HostMemory

    engine = next(engine for engine in read_manifest(plans / MODEL).engines if engine.first == 3)
    size = (plans / MODEL / engine.file).stat().st_size
    folder = tmp_path / MODEL
    with serving(plans) as port:
        manifest_bytes = (plans / MODEL / "model.json").stat().st_size
        with cutting(port, manifest_bytes + 10_000, size // 2, 0, 0) as way:
            with pytest.raises(EngineError, match="bytes are here: check the server and the network"):
                pull_plan(origin(way.url, attempts_max=2), tmp_path)
            kept = (folder / "objects" / f"{engine.sha256}.part").stat().st_size
            assert size // 3 < kept < size and not (folder / engine.file).exists()
            pull_plan(origin(way.url), tmp_path)
            assert f"GET /sha256/{engine.sha256}".encode() in way.requests[-1]
            assert f"Range: bytes={kept}-".encode() in way.requests[-1]
            asked = len(way.requests)
            pull_plan(origin(way.url), tmp_path)
            assert len(way.requests) == asked
    assert {path.name for path in folder.iterdir()} == {engine.file, "model.json", "objects", "pulled.json"}
    assert (folder / engine.file).read_bytes() == (plans / MODEL / engine.file).read_bytes()
    backend = TensorRTBackend(BINDINGS, HostMemory(), DEVICE)
    assert backend.batch_max(backend.load(folder, LAST)) == 8


def test_an_altered_plan_is_refused_and_not_placed(plans: Path, tmp_path: Path) -> None:
    shutil.copytree(plans, tmp_path / "served")
    engine = next(engine for engine in read_manifest(plans / MODEL).engines if engine.first == 3)
    data = bytearray((plans / MODEL / engine.file).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "served" / MODEL / engine.file).write_bytes(data)
    with serving(tmp_path / "served") as port, pytest.raises(EngineError, match=rf"{engine.sha256}: altered"):
        pull_plan(origin(f"http://127.0.0.1:{port}"), tmp_path / "device")
    assert not (tmp_path / "device" / MODEL / engine.file).exists()


def test_engines_that_were_built_after_the_manifest_was_pulled_are_pulled_too(
    plans: Path, served: Path, tmp_path: Path
) -> None:
    """The segment here is the very one, but the manifest here knows no engine for it."""
    shutil.copytree(served, tmp_path / "device")
    with serving(served) as port:
        pull_plan(origin(f"http://127.0.0.1:{port}"), tmp_path / "device")
    assert [path.name for path in (tmp_path / "device" / MODEL).glob("*.plan")] == []
    assert (tmp_path / "device" / MODEL / "0000-0001.onnx").exists()  # nothing better there: what is here stays
    with serving(plans) as port:
        pull_plan(origin(f"http://127.0.0.1:{port}"), tmp_path / "device")
    assert [path.name for path in (tmp_path / "device" / MODEL).glob("*.plan")] == ["0003-0004.plan"]


def test_what_fp16_cost_is_sealed_and_pulled_with_the_rest(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="halving needs it")
    from pamdi.engines.half_store import halve_folder, read_about

    halved = halve_folder(KEPT, tmp_path / "served" / MODEL, MODEL)
    digest, folder = halved.segment(3, 4).sha256, tmp_path / "device" / MODEL
    with serving(tmp_path / "served") as port:
        pull(origin(f"http://127.0.0.1:{port}"), tmp_path / "device", LAST, digest)
    about = read_about(folder, read_manifest(folder))
    assert about is not None and about == read_about(tmp_path / "served" / MODEL, halved)
    assert main(["engines", "list", str(folder)]) == 0
    text = (folder / "half.json").read_text()
    (folder / "half.json").unlink()
    (folder / "half.json").write_text(text.replace("0.0", "0.1", 1))
    with pytest.raises(EngineError, match=r"half\.json: altered or cut short"):
        read_about(folder, read_manifest(folder))
    assert main(["engines", "list", str(folder)]) == 1


async def loaded(config: DaemonConfig, said: List[str]) -> Any:
    """What comes of a daemon's load of the last segment: as its service wires it, less the broker."""
    events: "asyncio.Queue[Any]" = asyncio.Queue()
    backend, pull = open_backend("onnxruntime"), puller(config, said.append)
    room = EngineRoom(backend, Path(config.store), events.put_nowait, said.append, pull, config.trusted_keys)
    room.load(Load(LAST, DIGEST, 1000))
    event = await asyncio.wait_for(events.get(), 120.0)
    room.close()
    return event


async def test_a_daemon_that_lacks_a_segment_pulls_it_before_it_loads(server: int, tmp_path: Path) -> None:
    said: List[str] = []
    config = DaemonConfig("d0", "orin-nano", str(tmp_path / "device"))
    assert isinstance(await loaded(config, said), EngineFailed)
    with_url = DaemonConfig("d0", "orin-nano", str(tmp_path / "device"), store_url=f"http://127.0.0.1:{server}")
    assert await loaded(with_url, said) == EngineLoaded(LAST)
    assert said == [f"{LAST}: pulling {DIGEST[:12]} from http://127.0.0.1:{server}"]


async def test_a_daemon_with_trusted_keys_loads_only_what_one_of_them_signed(served: Path, tmp_path: Path) -> None:
    key = private_key(tmp_path / "key.pem")
    config = DaemonConfig("d0", "orin-nano", str(served), trusted_keys=[public_text(key)])
    failed = await loaded(config, [])
    assert isinstance(failed, EngineFailed) and "signed by none of trusted_keys" in failed.reason
    assert main(["engines", "sign", str(served / MODEL), "--key", str(tmp_path / "key.pem")]) == 0
    assert await loaded(config, []) == EngineLoaded(LAST)
