"""Graphs that are not ours: what is a constant, what may cross a cut, and what cannot be cut at all."""

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pamdi.core.errors import EngineError
from pamdi.engines.cuts import cut, load_model
from pamdi.engines.exactness import exactness
from pamdi.engines.export import export
from pamdi.engines.manifest import read_manifest
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
from pamdi.engines.verify import compare, covering_chain, random_inputs, run_chain, run_uncut

WEIGHT = np.arange(16, dtype=np.float32).reshape(4, 4)
ZOO = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
node = helper.make_node


def value(name: str, shape: Optional[List[Any]] = None) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape or ["batch", 4])


def saved(folder: Path, nodes: List[Any], constants: Optional[Dict[str, Any]] = None, **changes: Any) -> Path:
    """A model with input ``x`` and output ``y``, both [batch, 4], unless changed."""
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(
        nodes, "g", changes.get("inputs", [value("x")]), changes.get("outputs", [value("y")]), initializers
    )
    opset = helper.make_opsetid("", changes.get("opset", 18))
    onnx.save(helper.make_model(graph, ir_version=changes.get("ir", 8), opset_imports=[opset]), str(folder / "m.onnx"))
    return folder / "m.onnx"


def entering(path: Path) -> List[str]:
    return [tensor.name for unit in cut(load_model(path)).units for tensor in unit.entering]


def boundaries(path: Path) -> List[List[str]]:
    return [[tensor.name for tensor in boundary] for boundary in cut(load_model(path)).boundaries]


def chained_is_uncut(path: Path, folder: Path, units: Optional[int] = None) -> bool:
    manifest = export(path, folder, "m", units)
    backend, inputs = OnnxRuntimeBackend(1, "off"), random_inputs(manifest)
    return compare(
        run_chain(backend, folder, covering_chain(manifest), inputs), run_uncut(backend, path, inputs)
    ).identical


@pytest.mark.parametrize("kind", ["initializer", "IR 3", "Constant", "Identity"])
def test_a_constant_is_copied_into_each_segment_and_counted_there_however_it_is_made(tmp_path: Path, kind: str) -> None:
    body = [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["b"]), node("MatMul", ["b", "w"], ["y"])]
    if kind == "Constant":
        path = saved(tmp_path, [node("Constant", [], ["w"], value=numpy_helper.from_array(WEIGHT)), *body])
    elif kind == "Identity":
        path = saved(tmp_path, [node("Identity", ["kept"], ["w"]), *body], {"kept": WEIGHT})
    elif kind == "IR 3":
        path = saved(tmp_path, body, {"w": WEIGHT}, ir=3, opset=8, inputs=[value("x"), value("w", [4, 4])])
    else:
        path = saved(tmp_path, body, {"w": WEIGHT})
    units = cut(load_model(path)).units
    assert [(unit.entering[0].name, unit.memory_bytes, unit.flops) for unit in units] == [
        ("x", 64, 32), ("a", 0, 4), ("b", 64, 32),
    ]  # fmt: skip
    assert chained_is_uncut(path, tmp_path / "out")


def test_a_tensor_whose_type_has_no_wire_format_is_no_cut(tmp_path: Path) -> None:
    path = saved(
        tmp_path,
        [node("Relu", ["x"], ["a"]), node("Cast", ["a"], ["b"], to=TensorProto.BFLOAT16),
         node("Cast", ["b"], ["y"], to=TensorProto.FLOAT)],
    )  # fmt: skip
    assert entering(path) == ["x", "a"]


def test_a_tensor_that_mixes_the_batch_with_another_axis_is_no_cut(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["a"]), node("Reshape", ["a", "to2"], ["b"]), node("Neg", ["b"], ["c"]),
        node("Reshape", ["c", "to4"], ["d"]), node("Abs", ["d"], ["y"]),
    ]  # fmt: skip
    path = saved(tmp_path, nodes, {"to2": np.array([-1, 2]), "to4": np.array([-1, 4])})
    assert {"b", "c"}.isdisjoint(entering(path))  # [2 x batch, 2]: its size for one input cannot be told from its shape
    assert chained_is_uncut(path, tmp_path / "out")


def test_a_skip_around_a_node_is_no_cut_where_there_are_others(tmp_path: Path) -> None:
    skip = [
        node("Relu", ["x"], ["a"]),
        node("Neg", ["a"], ["b"]),
        node("Add", ["a", "b"], ["c"]),
        node("Abs", ["c"], ["y"]),
    ]
    assert entering(saved(tmp_path, skip)) == ["x", "a", "c"]
    assert chained_is_uncut(tmp_path / "m.onnx", tmp_path / "out")


def test_an_output_in_the_middle_travels_along(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["b"]), node("Abs", ["b"], ["y"])]
    path = saved(tmp_path, nodes, outputs=[value("a"), value("y")])
    assert boundaries(path) == [["x"], ["a"], ["a", "b"], ["a", "y"]]
    assert chained_is_uncut(path, tmp_path / "out")


def masked(layers: int) -> List[Any]:
    """A mask made from the input and read in every layer: live throughout, no single tensor is a cut."""
    nodes = [node("Sign", ["x"], ["mask"]), node("Abs", ["x"], ["h0"])]
    for i in range(layers):
        nodes += [node("MatMul", [f"h{i}", "w"], [f"p{i}"]), node("Mul", [f"p{i}", "mask"], [f"h{i + 1}"])]
    return [*nodes, node("Neg", [f"h{layers}"], ["y"])]


def test_where_no_single_tensor_is_a_cut_the_fewest_are(tmp_path: Path) -> None:
    path = saved(tmp_path, masked(2), {"w": WEIGHT})
    assert boundaries(path) == [
        ["x"], ["x", "mask"], ["mask", "h0"], ["mask", "p0"], ["mask", "h1"], ["mask", "p1"], ["h2"], ["y"],
    ]  # fmt: skip
    assert chained_is_uncut(path, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert manifest.bytes == (16, 32, 32, 32, 32, 32, 16, 16)
    inside = onnx.load(tmp_path / "out" / "0003-0004.onnx").graph  # h1 = p0 * mask: the mask is read, and goes around
    assert [[value.name for value in values] for values in (inside.input, inside.output)] == [["mask", "p0"], ["h1"]]


def test_a_model_of_several_inputs_is_cut_and_all_enter_its_first_unit(tmp_path: Path) -> None:
    nodes = [node("Add", ["x", "z"], ["a"]), node("Neg", ["a"], ["y"])]
    path = saved(tmp_path, nodes, inputs=[value("x"), value("z"), value("unread")])
    assert boundaries(path) == [["x", "z", "unread"], ["a"], ["y"]]
    assert chained_is_uncut(path, tmp_path / "out")


def test_a_random_node_is_drawn_once_and_never_copied(tmp_path: Path) -> None:
    nodes = [
        node("RandomNormal", [], ["r"], shape=[1, 4]), node("Add", ["x", "r"], ["a"]), node("Neg", ["a"], ["b"]),
        node("Sub", ["b", "r"], ["c"]), node("Abs", ["c"], ["y"]),
    ]  # fmt: skip
    path = saved(tmp_path, nodes)
    assert boundaries(path) == [["x"], ["x", "r"], ["r", "a"], ["r", "b"], ["c"], ["y"]]
    manifest = export(path, tmp_path / "out", "m")
    operators = [node.op_type for i in manifest.segments for node in onnx.load(tmp_path / "out" / i.onnx).graph.node]
    assert operators == ["RandomNormal", "Add", "Neg", "Sub", "Abs"]


def test_a_nameless_batch_axis_is_followed_through_the_graph(tmp_path: Path) -> None:
    path = saved(
        tmp_path, [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["y"])], inputs=[value("x", [None, 4])],
        outputs=[value("y", [None, 4])],
    )  # fmt: skip
    assert [unit.entering[0].shape for unit in cut(load_model(path)).units] == [("batch", 4), ("batch", 4)]


def captured() -> Tuple[List[Any], Dict[str, Any]]:
    branches = [
        helper.make_graph([node(operator, ["a"], [operator])], operator, [], [value(operator)])
        for operator in ("Neg", "Abs")
    ]
    choice = node("If", ["which"], ["b"], then_branch=branches[0], else_branch=branches[1])
    return [node("Relu", ["x"], ["a"]), choice, node("Neg", ["b"], ["y"])], {"which": np.array(True)}


@pytest.mark.parametrize(
    ("nodes", "changes", "says"),
    [
        (captured()[0], {"constants": captured()[1]}, "If reads 'a' from within a branch or loop"),
        ([node("Relu", ["w"], ["y"])], {"constants": {"w": WEIGHT}}, "computes nothing from its input"),
        (
            [node("Relu", ["x"], ["y"])],
            {"inputs": [value("x", ["batch", "width"])], "outputs": [value("y", ["batch", "width"])]},
            "'x' cannot travel .* fixed sizes",
        ),
    ],
)
def test_a_model_that_cannot_be_cut_is_refused_in_one_line(
    tmp_path: Path, nodes: List[Any], changes: Dict[str, Any], says: str
) -> None:
    path = saved(tmp_path, nodes, **changes)
    with pytest.raises(EngineError, match=says) as error:
        export(path, tmp_path / "out", "m")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_the_recorded_gpt2_is_cut_at_single_tensors_and_chains(tmp_path: Path) -> None:
    path = Path(__file__).parent / "graphs" / "gpt2-tiny.onnx"
    assert [len(boundary) for boundary in boundaries(path)] == [1] * 12
    assert [one.difference.identical for one in exactness(path, random_sets=3)] == [True] * 4


# Zoo graphs as onnx ships them for its own tests: IR 3, and every weight the output of a ConstantOfShape node. Their
# numbers are constants, so that equal outputs say little; that each segment loads and chains is the point.
@pytest.mark.parametrize(
    ("name", "cuts", "weights_mib"),
    [
        ("resnet50", 39, 97),
        ("densenet121", 87, 31),
        ("inception_v1", 25, 26),
        ("shufflenet", 39, 5),
        ("squeezenet", 33, 4),
    ],
)
def test_zoo_graphs_with_computed_weights_have_their_cuts_and_chain(
    tmp_path: Path, name: str, cuts: int, weights_mib: int
) -> None:
    path = ZOO / f"light_{name}.onnx"
    if not path.exists():
        pytest.skip("this onnx ships no zoo graphs")
    units = cut(load_model(path)).units
    assert (len(units) - 1, sum(unit.memory_bytes for unit in units) >> 20) == (cuts, weights_mib)
    assert chained_is_uncut(path, tmp_path / "out", units=6)
