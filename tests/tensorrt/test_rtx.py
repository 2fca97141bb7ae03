"""Real builds with the real TensorRT-RTX, and its real failures. No GPU is needed; the engines run on none here.

Skipped where its packages are not installed: ``make tensorrt-proof`` has them in a venv of its own.
"""

import importlib.util
import shutil
from pathlib import Path
from typing import Any, List

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pamdi.core.errors import EngineError
from pamdi.engines.build import Wanted, build
from pamdi.engines.digits import load
from pamdi.engines.export import OURS
from pamdi.engines.half import to_half
from pamdi.engines.here import Here
from pamdi.engines.int8 import to_int8
from pamdi.engines.manifest import checked_file
from pamdi.engines.tensorrt_builder import Bindings, Settings, build_plan, open_bindings

STORE = Path(__file__).parents[1] / "engines" / "store" / "resnet56-digits"
GIB = 1 << 30
USUAL = Settings((1, 4, 8), GIB, True, "8.6")


@pytest.fixture(scope="module")
def rtx() -> Bindings:
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        pytest.skip("TensorRT-RTX is not installed: make tensorrt-proof has it")
    return open_bindings("tensorrt-rtx")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("half") / "resnet56.onnx"
    onnx.save(to_half(onnx.load(str(OURS["resnet56"]))).model, str(path))
    return path


def go_on(phase: str) -> bool:
    return True


def saved(folder: Path, operator: str, **attributes: Any) -> Path:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], **attributes)], "g", ends[:1], ends[1:])
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)]), str(path))
    return path


def test_resnet56_becomes_one_engine_with_the_layers_of_its_graph(rtx: Bindings, resnet: Path) -> None:
    phases: List[str] = []

    def note(phase: str) -> bool:
        phases.append(phase)
        return True

    built = build_plan(rtx, resnet, USUAL, note)
    expected = {"CONVOLUTION": 57, "ACTIVATION": 55, "ELEMENTWISE": 28, "REDUCE": 1, "CAST": 2}
    assert {kind: built.layer_types.count(kind) for kind in expected} == expected
    assert len(built.plan) > 1_000_000 and phases


def test_all_segments_of_a_folder_are_built_and_named_in_its_manifest(rtx: Bindings, tmp_path: Path) -> None:
    shutil.copytree(STORE, tmp_path / "m")
    here = Here(None, "x86", 8 * GIB)
    outcome = build(tmp_path / "m", Wanted("x86-8.6", "tensorrt-rtx"), here)
    assert [engine.tensorrt for engine in outcome.built] == [rtx.version] * 4
    for engine in outcome.built:
        checked_file(tmp_path / "m", engine.file, engine.sha256)
    assert build(tmp_path / "m", Wanted("x86-8.6", "tensorrt-rtx"), here).built == ()


def test_an_int8_graph_becomes_an_engine_of_quantised_convolutions(rtx: Bindings, tmp_path: Path) -> None:
    kept = to_int8(STORE / "0000-0001.onnx", tmp_path / "q.onnx", {"image": load("test")[0][:16]})
    built = build_plan(rtx, tmp_path / "q.onnx", USUAL._replace(fp16=False, int8=True), go_on)
    expected = {"CONVOLUTION": 15, "QUANTIZE": 30, "DEQUANTIZE": 45}
    assert len(kept) == 15 and {kind: built.layer_types.count(kind) for kind in expected} == expected


def test_a_file_that_is_no_onnx_is_refused_with_the_parsers_words(rtx: Bindings, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(EngineError, match=r"bad\.onnx: TensorRT .* cannot read it: "):
        build_plan(rtx, path, USUAL, go_on)


def test_an_operator_that_tensorrt_lacks_is_named(rtx: Bindings, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot read it: .*Det"):
        build_plan(rtx, saved(tmp_path, "Det"), USUAL, go_on)


def test_a_batch_outside_any_profile_is_refused_before_the_engine_is_made(rtx: Bindings, resnet: Path) -> None:
    with pytest.raises(EngineError, match="makes no engine of it"):
        build_plan(rtx, resnet, USUAL._replace(batches=(8, 4, 1)), go_on)


def test_a_workspace_that_is_too_small_is_said_with_its_size(rtx: Bindings, resnet: Path) -> None:
    with pytest.raises(EngineError, match="within 16 bytes of workspace: .*workspace"):
        build_plan(rtx, resnet, USUAL._replace(workspace_bytes=16), go_on)


def test_a_build_that_is_told_to_stop_stops(rtx: Bindings, resnet: Path) -> None:
    with pytest.raises(EngineError, match="the build was stopped"):
        build_plan(rtx, resnet, USUAL, lambda phase: False)


def test_a_compute_capability_that_it_does_not_know_is_refused_with_those_it_does(rtx: Bindings, resnet: Path) -> None:
    with pytest.raises(EngineError, match=r"9\.0: this TensorRT builds for .*SM86"):
        build_plan(rtx, resnet, USUAL._replace(target="9.0"), go_on)


def test_a_corrupt_plan_is_answered_with_nothing_which_the_back_end_refuses(rtx: Bindings) -> None:
    """Needs no GPU: it is refused at its header, before a device is asked for."""
    trt = rtx.trt
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    assert runtime.deserialize_cuda_engine(b"no plan at all" * 100) is None
