"""Values that FP16 does not hold are found although onnxruntime on a CPU would carry them through."""

from pathlib import Path
from typing import List

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pamdi.core.errors import EngineError
from pamdi.engines.build import Wanted, build
from pamdi.engines.export import export
from pamdi.engines.half_store import halve_folder
from tests.engines.test_build import ORIN, TENSORRT


def scaled(path: Path, factors: List[float]) -> Path:
    """A model that multiplies by each of ``factors`` in turn, one unit."""
    names = [f"x{n}" for n in range(len(factors) + 1)]
    weights = [numpy_helper.from_array(np.full((1,), f, np.float32), f"by{n}") for n, f in enumerate(factors)]
    nodes = [helper.make_node("Mul", [names[n], f"by{n}"], [names[n + 1]], f"mul{n}") for n in range(len(factors))]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4]) for name in (names[0], names[-1])]
    graph = helper.make_graph(nodes, "scaled", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path / "m.onnx"))
    export(path / "m.onnx", path / "scaled", "scaled", units=1)
    return path / "scaled"


def test_what_is_too_large_on_the_way_is_refused_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TENSORRT / "fake"))
    folder = scaled(tmp_path, [1e3, 1e3, 1e-5])
    says = r"segment 0:1: x2 reaches \d.*e\+06, FP16 ends at 65504: build with --precision fp32, or scale"
    with pytest.raises(EngineError, match=says):
        build(folder, Wanted("orin-nano"), ORIN)
    with pytest.raises(EngineError, match=says):
        halve_folder(folder, tmp_path / "half", "half")
    assert len(build(folder, Wanted("orin-nano", precision="fp32"), ORIN).manifest.engines) == 1


def test_what_fits_and_what_is_infinite_in_float32_too_is_none_of_its_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TENSORRT / "fake"))
    folder = scaled(tmp_path, [1e2, 1e2, float("inf"), 1.0])
    assert len(build(folder, Wanted("orin-nano"), ORIN).manifest.engines) == 1
