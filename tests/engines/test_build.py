"""Builds: each engine whole or absent, nothing built twice, killed at any moment and run again it completes.

TensorRT is the fake of tests/tensorrt/fake, in the worker process that a real build uses.
"""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

import numpy as np
import onnx
import pytest

from pamdi.core.errors import EngineError
from pamdi.engines.build import LOCK, Step, Wanted, build
from pamdi.engines.digits import load
from pamdi.engines.here import Here
from pamdi.engines.manifest import checked_file, read_manifest, sha256_of

STORE = Path(__file__).parent / "store" / "resnet56-digits"
TENSORRT = Path(__file__).parents[1] / "tensorrt"
ORIN = Here("orin-nano", "a test", 8 << 30, "36.4", "12.6", "15W")
WAIT_S_MAX = 300
STEPS = 60  # of a whole build of four engines in the folder's files; a few more in truth


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(TENSORRT / "fake"))
    shutil.copytree(STORE, tmp_path / "resnet56-digits")
    return tmp_path / "resnet56-digits"


def whole(folder: Path) -> List[str]:
    """The engines that the manifest names, each of them checked, and no unfinished file beside them."""
    assert [path.name for path in folder.glob(".building-*")] == []
    manifest = read_manifest(folder)
    for engine in manifest.engines:
        checked_file(folder, engine.file, engine.sha256)
    return [f"{engine.first}:{engine.stop}" for engine in manifest.engines]


def test_every_segment_gets_an_engine_with_all_that_decides_where_it_runs(store: Path) -> None:
    steps: List[Step] = []
    outcome = build(store, Wanted("orin-nano"), ORIN, steps.append)
    assert whole(store) == ["0:1", "1:2", "2:3", "3:4"]
    engine = outcome.manifest.engines[0]
    assert (engine.device_type, engine.compute_capability, engine.tensorrt) == ("orin-nano", "8.7", "10.3.0")
    assert (engine.l4t, engine.cuda, engine.power_mode, engine.batches) == ("36.4", "12.6", "15W", (1, 4, 8))
    assert engine.segment_sha256 == outcome.manifest.segments[0].sha256
    assert engine.inputs == outcome.manifest.boundaries[0]
    assert engine.max_abs_error is not None and 0 < engine.max_abs_error < 0.1
    assert "ReduceMean" in outcome.manifest.engines[3].kept[0]
    assert [step.done for step in steps if step.engine] == [1, 2, 3, 4]
    assert "tactics" in {step.phase for step in steps}
    assert steps[0].left_s is None and steps[-1].left_s == 0


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    np.savez(tmp_path / "digits.npz", image=load("test")[0][:16])
    return tmp_path / "digits.npz"


@pytest.mark.parametrize(("ranges", "error_max"), [("entropy", 6.0), ("largest", 3.0)])
def test_int8_is_calibrated_on_given_inputs_judged_on_others_and_said_in_the_manifest(
    store: Path, digits: Path, ranges: str, error_max: float
) -> None:
    wanted = Wanted("orin-nano", precision="int8", inputs=digits, ranges=ranges)
    outcome = build(store, wanted, ORIN)
    assert whole(store) == ["0:1", "1:2", "2:3", "3:4"]
    for engine in outcome.manifest.engines:
        assert (engine.precision, engine.kept) == ("int8", ("all but convolutions and matrix products",))
        assert engine.error_from == "onnxruntime on the CPU, on inputs that did not calibrate it"
        assert engine.max_abs_error is not None and 0.01 < engine.max_abs_error < error_max
        assert engine.flags == ("detailed", f"int8, ranges by {ranges}, on {sha256_of(digits)[:12]}")
        graph = onnx.load_from_string(plan_model(store / engine.file)).graph
        zeros = {w.name: onnx.numpy_helper.to_array(w) for w in graph.initializer}
        points = [zeros[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
        assert points and not any(point.any() for point in points)  # symmetric, as TensorRT wants it
    assert build(store, wanted, ORIN).built == ()
    np.savez(digits, image=load("test")[0][16:32])
    assert len(build(store, wanted, ORIN).built) == 4  # other inputs, other ranges
    beside = build(store, Wanted("orin-nano"), ORIN)
    assert len(beside.manifest.engines) == 8


def plan_model(path: Path) -> bytes:
    """The graph that the fake TensorRT keeps in a plan."""
    data = path.read_bytes()
    return data[4 + int.from_bytes(data[:4], "little") :]


def test_int8_is_never_made_without_inputs_that_fit(store: Path, tmp_path: Path, digits: Path) -> None:
    np.savez(tmp_path / "one.npz", image=load("test")[0][:1])
    np.savez(tmp_path / "wrong.npz", picture=load("test")[0][:4])
    for wanted, says in (
        (Wanted("orin-nano", precision="int8"), "int8 and inputs go together: --precision int8 --inputs"),
        (Wanted("orin-nano", precision="fp16", inputs=digits), "go together"),
        (Wanted("orin-nano", precision="int8", inputs=tmp_path / "one.npz"), "one half calibrates, the other judges"),
        (Wanted("orin-nano", precision="int8", inputs=tmp_path / "wrong.npz"), "expected .'image'.: give inputs of"),
        (Wanted("orin-nano", precision="int8", inputs=tmp_path / "none.npz"), "not an .npz file of inputs"),
    ):
        with pytest.raises(EngineError, match=says) as error:
            build(store, wanted, ORIN)
        assert "\n" not in str(error.value)


def test_a_second_run_builds_nothing_and_a_changed_setting_builds_anew(store: Path) -> None:
    build(store, Wanted("orin-nano"), ORIN)
    again = build(store, Wanted("orin-nano"), ORIN)
    assert (len(again.built), again.kept_before) == (0, 4)
    changed = build(store, Wanted("orin-nano", batches=(1, 2, 2)), ORIN)
    assert (len(changed.built), len(changed.manifest.engines)) == (4, 4)


def test_the_timing_cache_is_kept_per_device_type(store: Path) -> None:
    build(store, Wanted("orin-nano"), ORIN)
    assert [path.name for path in (store / ".timing").iterdir()] == ["orin-nano-tensorrt.cache"]
    assert (store / ".timing" / "orin-nano-tensorrt.cache").read_bytes() == b"timings"


def test_a_damaged_engine_is_built_again(store: Path) -> None:
    engine = build(store, Wanted("orin-nano"), ORIN).manifest.engines[1]
    path = store / engine.file
    path.unlink()
    path.write_bytes(b"damaged")
    assert [one.first for one in build(store, Wanted("orin-nano"), ORIN).built] == [1]
    assert len(whole(store)) == 4


def test_a_build_killed_by_9_leaves_whole_files_and_completes_when_run_again(store: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "FAKE_TENSORRT": str(tmp_path / "go")}
    command = [sys.executable, str(TENSORRT / "start_build.py"), str(store)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("0000-0001")  # and the second one waits for a file that never comes
    process.kill()
    process.communicate(timeout=WAIT_S_MAX)
    assert [engine.first for engine in read_manifest(store).engines] == [0]
    outcome = build(store, Wanted("orin-nano"), ORIN)
    assert (len(outcome.built), outcome.kept_before) == (3, 1)
    assert len(whole(store)) == 4


def started(store: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(TENSORRT / "start_build.py"), str(store)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=WAIT_S_MAX
    )  # fmt: skip


def nothing_half(store: Path) -> List[str]:
    """What a build that was killed leaves is whole, or hidden and swept by the next. Returns the engines there."""
    there = sorted(path.name for path in store.glob("*.plan") if not path.name.startswith("."))
    manifest = read_manifest(store)  # whole, sealed, or this raises
    for engine in manifest.engines:
        checked_file(store, engine.file, engine.sha256)
    for path in [*store.glob("*.plan"), *store.glob("*.onnx")]:
        assert path.name.startswith(".") or path.stat().st_size > 1000
    return there


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_any_moment_a_build_leaves_nothing_half_and_completes_when_run_again(store: Path, seed: int) -> None:
    """The moment is a step of the building process drawn from the seed: one of all that it does to the folder's files.
    The second run, which has fewer left, may be killed at another; the third one is let be."""
    drawn = random.Random(seed)
    killed = started(store, KILL_AT=str(drawn.randint(1, STEPS)))
    assert killed.returncode == -9, killed.stderr
    nothing_half(store)
    assert started(store, KILL_AT=str(drawn.randint(1, STEPS))).returncode in (-9, 0)
    nothing_half(store)
    last = started(store)
    assert last.returncode == 0, last.stderr
    assert whole(store) == ["0:1", "1:2", "2:3", "3:4"]
    assert sorted(nothing_half(store)) == sorted(engine.file for engine in read_manifest(store).engines)
    hidden = [path.name for path in store.rglob(".*") if path.is_file() and not path.name.endswith((".lock", "ing"))]
    assert hidden == []
    assert build(store, Wanted("orin-nano"), ORIN).built == ()


@pytest.mark.parametrize("step", [1, 5, 9, 14, 20])
def test_a_worker_killed_at_any_moment_leaves_nothing_half_either(
    store: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", f"kill {step}")
    with pytest.raises(EngineError, match="signal 9"):
        build(store, Wanted("orin-nano"), ORIN)
    assert len(nothing_half(store)) == len(whole(store)) < 4
    monkeypatch.delenv("FAKE_TENSORRT")
    build(store, Wanted("orin-nano"), ORIN)
    assert len(whole(store)) == 4


def test_a_builder_killed_for_memory_leaves_nothing_half_and_says_what_to_lower(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", "kill")
    with pytest.raises(EngineError, match=r"segment 0:1: .*signal 9.*--workspace-mib \(now 1024\) or --batches"):
        build(store, Wanted("orin-nano"), ORIN)
    assert whole(store) == []


def test_an_interrupted_build_keeps_what_is_built(store: Path) -> None:
    def stop(step: Step) -> None:
        if step.engine is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(store, Wanted("orin-nano"), ORIN, stop)
    assert whole(store) == ["0:1"]


def test_two_builds_in_one_folder_are_refused(store: Path) -> None:
    import fcntl

    with open(store / LOCK, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EngineError, match="another build is running here"):
            build(store, Wanted("orin-nano"), ORIN)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (Wanted("toaster"), "device type 'toaster' is unknown: one of agx-orin"),
        (Wanted("jetson-nano"), "jetson-nano: JetPack 4.6, Python 3.6: TensorRT 8.2 has no execute_async_v3"),
        (Wanted("jetson-tx2"), "jetson-tx2: JetPack 4.6"),
        (Wanted("thor"), "built on thor boards; this one is orin-nano .*--device thor` there"),
        (Wanted("orin-nano", "tensorrt-rtx"), "not Jetson's TensorRT"),
        (Wanted("orin-nano", "onnxruntime"), "builds nothing: one of tensorrt, tensorrt-rtx"),
        (Wanted("orin-nano", precision="int3"), "precision int3 is not possible"),
        (Wanted("orin-nano", batches=(4, 1, 8)), "batches 4,1,8"),
    ],
)
def test_what_cannot_be_built_is_said_before_anything_starts(store: Path, wanted: Wanted, says: str) -> None:
    with pytest.raises(EngineError, match=says) as error:
        build(store, wanted, ORIN)
    assert "\n" not in str(error.value)


def test_without_tensorrt_it_says_what_to_install(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(EngineError, match="not installed here.*python3-libnvinfer"):
        build(store, Wanted("orin-nano"), ORIN)
