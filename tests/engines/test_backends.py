"""One contract for every back end: what it must do, and what it must refuse, in one line each."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, List, Mapping

import numpy as np
import pytest

from pamdi.cli.main import main
from pamdi.core.errors import BadInput, EngineError
from pamdi.core.segment import Segment
from pamdi.engines.backend import Arrays, Backend
from pamdi.engines.digits import load
from pamdi.engines.manifest import read_manifest
from pamdi.engines.onnxruntime_backend import CPU, CUDA, _providers
from pamdi.engines.open_backend import open_backend
from pamdi.engines.paced_backend import PacedBackend
from pamdi.engines.seal import sealed
from pamdi.engines.stub_backend import StubBackend

STORE = Path(__file__).parent / "store" / "resnet56-digits"  # four units, exported once and kept: devices have no onnx
MODEL = "resnet56-digits"
ENGINE = {
    "first": 0, "stop": 1, "device_type": "orin-nano", "backend": "tensorrt", "precision": "fp16", "file": "plan",
    "sha256": "00",
}  # fmt: skip
BACKENDS = {
    "onnxruntime": lambda: open_backend("onnxruntime", 1, "off"),
    "stub": StubBackend,
    "paced": lambda: PacedBackend(open_backend("onnxruntime", 1, "off")),
}
if importlib.util.find_spec("onnx") is not None:  # the fake TensorRT builds with it; devices have none
    from tests.tensorrt.fake_backend import FakeTensorRTBackend

    BACKENDS["tensorrt"] = FakeTensorRTBackend


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    make: Callable[[], Backend] = BACKENDS[request.param]
    return make()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    shutil.copytree(STORE, tmp_path / MODEL)
    return tmp_path / MODEL


def image(count: int = 1) -> "np.ndarray":
    return load("test")[0][:count]


def test_a_chain_gives_outputs_of_the_manifests_shape(backend: Backend) -> None:
    tensors: Mapping[str, "np.ndarray"] = {"image": image(2)}
    for first in range(4):
        handle = backend.load(STORE, Segment(MODEL, first, first + 1))
        tensors = backend.run(handle, tensors)
        backend.unload(handle)
    assert {name: (a.dtype.name, a.shape) for name, a in tensors.items()} == {"logits": ("float32", (2, 10))}


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask made from the input and read in every layer: it goes around the units that do not read it."""
    pytest.importorskip("onnx", reason="the model is made here")
    from pamdi.engines.export import export
    from tests.engines.test_graphs import WEIGHT, masked, saved

    folder = tmp_path_factory.mktemp("around")
    export(saved(folder, masked(2), {"w": WEIGHT}), folder / "masked", "masked")
    return folder / "masked"


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "stub"])
def test_what_goes_around_a_segment_comes_out_with_what_it_makes(name: str, around: Path) -> None:
    make: Callable[[], Backend] = BACKENDS[name]
    backend, plain = make(), open_backend("onnxruntime", 1, "off")
    tensors: Mapping[str, "np.ndarray"] = {"x": np.array([[1, -2, 3, 0.5], [4, 5, -6, 7]], np.float32)}
    expected = tensors
    crossing = []
    for unit in range(len(read_manifest(around).units)):
        segment = Segment("masked", unit, unit + 1)
        tensors = backend.run(backend.load(around, segment), tensors)
        expected = plain.run(plain.load(around, segment), expected)
        crossing.append(sorted(tensors))
        assert {name: array.tobytes() for name, array in tensors.items()} == {
            name: array.tobytes() for name, array in expected.items()
        }
    assert crossing == [
        ["mask", "x"], ["h0", "mask"], ["mask", "p0"], ["h1", "mask"], ["mask", "p1"], ["h2"], ["y"],
    ]  # fmt: skip


def test_works_run_together_have_their_own_answers_and_their_own_failures(backend: Backend) -> None:
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    works = [{"image": image(3)[:1]}, {"picture": image(1)}, {"image": image(3)[1:]}]
    together = backend.run_together(handle, works)
    assert [isinstance(answer, BadInput) for answer in together] == [False, True, False]
    for work, answer in zip(works, together):
        if not isinstance(answer, Exception):
            assert {name: array.shape for name, array in answer.items()} == {
                "add_256": (len(work["image"]), 16, 32, 32)
            }
            np.testing.assert_allclose(answer["add_256"], backend.run(handle, work)["add_256"], rtol=1e-5, atol=1e-5)
    assert backend.batch_max(handle) >= 1


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({}, "expected"),
        ({"picture": np.zeros((1, 3, 32, 32), np.float32)}, "picture"),
        ({"image": np.zeros((1, 3, 32, 32), np.float64)}, "float64; expected float32"),
        ({"image": np.zeros((1, 3, 31, 32), np.float32)}, r"\[1, 3, 31, 32\]"),
        ({"image": np.zeros((3, 32, 32), np.float32)}, "shape"),
        ({"image": np.zeros((0, 3, 32, 32), np.float32)}, "batch"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(
    backend: Backend, tensors: "dict[str, np.ndarray]", says: str
) -> None:
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    with pytest.raises(BadInput, match=says):
        backend.run(handle, tensors)


def test_a_segment_that_is_not_there_is_refused_with_the_ones_that_are(backend: Backend) -> None:
    with pytest.raises(EngineError, match=r"no segment 0:3.*0:1"):
        backend.load(STORE, Segment(MODEL, 0, 3))


def test_it_describes_itself(backend: Backend) -> None:
    assert {"name", "version", "precision", "device"} <= set(backend.describe())


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_engine_file_is_refused_in_one_line(store: Path, damage: str) -> None:
    path = store / "0001-0002.onnx"
    data = bytearray(path.read_bytes())
    if damage == "remove":
        os.unlink(path)
    elif damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(EngineError) as error:
        open_backend("onnxruntime").load(store, Segment(MODEL, 1, 2))
    assert "0001-0002.onnx" in str(error.value) and "again" in str(error.value) and "\n" not in str(error.value)


def altered(store: Path, **changes: object) -> Path:
    document = json.loads((store / "model.json").read_text())
    for key, value in changes.items():
        place, *rest = key.split("__")
        target = document
        for part in rest:
            target = target[int(place)] if place.isdigit() else target[place]
            place = part
        target[int(place) if isinstance(target, list) else place] = value
    (store / "model.json").write_text(json.dumps(sealed(document)))
    return store


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"segments__0__onnx": "../../etc/passwd"}, "plain name"),
        ({"segments__0__stop": 99}, "not within"),
        ({"segments__0__inputs": ["other"]}, "chain"),
        ({"units__0__memory_bytes": -1}, "negative"),
        ({"boundaries": []}, "boundaries"),
        ({"model": ""}, "no name"),
        ({"segments__0__onnx": "a\0b"}, "plain name"),
        ({"segments__0__onnx": ".hidden"}, "plain name"),
        ({"segments__1__first": 0, "segments__1__stop": 1}, "twice"),
        ({"units__1__bytes_in": 1}, "1 bytes enter; its tensors have 65536"),
        ({"input": []}, "not what enters the first unit"),
        ({"boundaries__1__0__shape": ["batch", -1, 2, 2]}, "shape"),
        ({"boundaries__1__0__shape": ["batch", "height", 2, 2]}, "shape"),
        ({"engines": [{**ENGINE, "file": "../plan"}]}, "engine file '../plan' is not a plain name"),
        ({"engines": [{**ENGINE, "stop": 9}]}, "engine 0:9 is not within 0:4"),
        ({"units": 3}, "Expected `array`"),
        ({"boundaries__1": [{"name": "x", "dtype": "float33", "shape": [1]}]}, "float33"),
    ],
)
def test_a_manifest_that_is_nonsense_is_refused(store: Path, changes: "dict[str, object]", says: str) -> None:
    with pytest.raises(EngineError, match=says) as error:
        read_manifest(altered(store, **changes))
    assert "\n" not in str(error.value)


def test_a_manifest_that_is_not_json_or_not_there_is_refused(store: Path) -> None:
    (store / "model.json").write_text("{")
    with pytest.raises(EngineError, match="not a manifest"):
        read_manifest(store)
    (store / "model.json").write_text('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(EngineError, match="not a manifest"):
        read_manifest(store)
    with pytest.raises(EngineError, match="No such file"):
        read_manifest(store / "nowhere")


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(EngineError, match="onnxruntime, stub, tensorrt"):
        open_backend("abacus")


def test_tensorrt_is_known_and_refused_with_what_to_install() -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed here")
    with pytest.raises(EngineError, match="tensorrt: not installed here.*python3-libnvinfer"):
        open_backend("tensorrt")


class Clock:
    """Passes when slept or worked, and only then. A long sleep ends later than asked than a short one does."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds + (0.00025 if seconds > 0.001 else 0.00005)


class Busy(StubBackend):
    """A run takes ``run_s`` of the clock."""

    def __init__(self, clock: Clock, run_s: float) -> None:
        super().__init__()
        self._clock, self._run_s = clock, run_s

    def run(self, handle: Any, tensors: "Mapping[str, np.ndarray]", urgent: bool = False) -> Arrays:
        self._clock.now += self._run_s
        return super().run(handle, tensors, urgent)


@pytest.mark.parametrize(("run_s", "ends"), [(0.004, 0.025), (0.0, 0.025), (0.040, 0.040)])
def test_a_paced_run_ends_at_its_instant_however_long_the_real_one_took(run_s: float, ends: float) -> None:
    clock = Clock()
    backend = PacedBackend(Busy(clock, run_s), lambda: clock.now, clock.sleep)
    segment = Segment(MODEL, 0, 1)
    backend.seconds = {segment: 0.025}
    outputs = backend.run(backend.load(STORE, segment), {"image": image()})
    assert list(outputs) == ["add_256"]
    assert 0 <= clock.now - ends <= 0.00015  # what one late short sleep may add


def test_a_device_lists_and_inspects_its_store_without_onnx_or_rich(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for absent in ("onnx", "rich"):
        monkeypatch.setitem(sys.modules, absent, None)
    assert [main(["engines", verb, "--json", str(store)]) for verb in ("list", "inspect")] == [0, 0]
    listed, inspected = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert listed["models"][0]["files"][0]["state"] == "good" and listed["sound"]
    assert [file["file"] for file in inspected["files"]] == [f"{u:04d}-{u + 1:04d}.onnx" for u in range(4)]
    (store / "0001-0002.onnx").write_bytes(b"")
    assert main(["engines", "list", str(store.parent)]) == 1
    assert "altered or cut short" in capsys.readouterr().out
    assert main(["engines", "cut", "resnet56"]) == 1
    assert capsys.readouterr().err.startswith("pamdi: onnx is not installed")
    assert main(["engines", "build", str(store), "--device", "orin-nano"]) == 1
    assert "built on orin-nano boards; this one is none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("device", "offered", "providers"),
    [
        ("auto", [CPU], [CPU]),
        ("auto", ["TensorrtExecutionProvider", CUDA, CPU], [CUDA, CPU]),
        ("cuda", [CUDA, CPU], [CUDA, CPU]),
        ("cpu", [CUDA, CPU], [CPU]),
    ],
)
def test_onnxruntime_takes_cuda_where_it_is_offered(device: str, offered: List[str], providers: List[str]) -> None:
    assert _providers(device, offered) == providers


@pytest.mark.parametrize(("device", "says"), [("cuda", "onnxruntime-gpu"), ("tpu", "one of auto, cpu, cuda")])
def test_a_device_that_onnxruntime_does_not_offer_is_one_line(device: str, says: str) -> None:
    with pytest.raises(EngineError, match=says):
        _providers(device, [CPU])


def test_onnxruntime_leaves_nothing_in_the_home_of_whoever_runs_it(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    program = "from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend as Backend; Backend()"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment = {**environment, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "telemetry" not in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []
