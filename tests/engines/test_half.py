"""FP16 in the graph: what is halved, what stays in FP32 and why, and what is refused."""

from typing import Any, Dict, List

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pamdi.core.errors import EngineError
from pamdi.engines.half import Half, to_half

node = helper.make_node
FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16


def model(nodes: List[Any], constants: "Dict[str, np.ndarray]", opset: int = 18, batch: Any = "batch") -> Any:
    """From ``x`` to ``y``, both float32 [batch, 4]."""
    ends = [helper.make_tensor_value_info(name, FLOAT, [batch, 4]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def types(half: Half) -> Dict[str, int]:
    """The element type of every value in the graph, as the ONNX library infers it."""
    graph = onnx.shape_inference.infer_shapes(half.model, strict_mode=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    return {value.name: value.type.tensor_type.elem_type for value in values}


def run(half: Half, x: "np.ndarray") -> "np.ndarray":
    session = onnxruntime.InferenceSession(half.model.SerializeToString(), providers=["CPUExecutionProvider"])
    y: np.ndarray = session.run(None, {"x": x})[0]
    return y


EYE = {"w": np.eye(4, dtype=np.float32)}


def test_weights_activations_and_boundaries_are_halved() -> None:
    half = to_half(model([node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["y"])], EYE))
    assert (half.kept, half.casts, types(half)) == ((), 0, {"x": FLOAT16, "a": FLOAT16, "y": FLOAT16})
    assert [(w.name, w.data_type) for w in half.model.graph.initializer] == [("w__half", FLOAT16)]


def test_a_boundary_stays_float32_where_asked_with_the_cast_inside() -> None:
    half = to_half(model([node("MatMul", ["x", "w"], ["y"])], EYE), frozenset(["x", "y"]))
    assert (half.casts, types(half)["x"], types(half)["y"], types(half)["x__half"]) == (2, FLOAT, FLOAT, FLOAT16)
    x = np.array([[1, -2, 3, 0.5]], np.float32)
    assert run(half, x).tobytes() == x.tobytes()


def test_what_one_kept_node_hands_to_the_next_never_passes_through_fp16() -> None:
    """300 squared is 90,000: infinite in FP16, and its root is 300 again."""
    nodes = [node("Pow", ["x", "two"], ["a"]), node("Sqrt", ["a"], ["b"]), node("Neg", ["b"], ["y"])]
    half = to_half(model(nodes, {"two": np.array(2, np.float32)}))
    assert half.kept == ("a (Pow): sums and powers need FP32", "b (Sqrt): sums and powers need FP32")
    assert (types(half)["a"], types(half)["b"], half.casts) == (FLOAT, FLOAT, 2)
    assert run(half, np.full((1, 4), 300, np.float16)).tolist() == [[-300.0] * 4]


def test_a_layer_norm_and_a_softmax_are_kept_and_named() -> None:
    nodes = [
        node("LayerNormalization", ["x", "scale"], ["n"], name="norm"), node("MatMul", ["n", "w"], ["m"]),
        node("Softmax", ["m"], ["y"], name="attention"),
    ]  # fmt: skip
    half = to_half(model(nodes, {**EYE, "scale": np.ones(4, np.float32)}))
    assert [line.partition(":")[0] for line in half.kept] == ["norm (LayerNormalization)", "attention (Softmax)"]
    assert {w.name: w.data_type for w in half.model.graph.initializer} == {"scale": FLOAT, "w__half": FLOAT16}


@pytest.mark.parametrize(
    ("constant", "why"),
    [
        (np.full(4, -3.4e38, np.float32), "constant 'c' is beyond 65504"),
        (np.array(1e-6, np.float32), "constant 'c' is too small for FP16"),
        (np.full(4, -np.inf, np.float32), ""),
        (np.full(4, 65504, np.float32), ""),
        (np.array(0, np.float32), ""),
    ],
)
def test_a_constant_that_fp16_cannot_hold_keeps_its_node(constant: "np.ndarray", why: str) -> None:
    half = to_half(model([node("Add", ["x", "c"], ["y"], name="mask")], {"c": constant}))
    assert half.kept == ((f"mask (Add): {why}",) if why else ())


def test_a_constant_that_is_computed_from_too_large_ones_keeps_its_readers_too() -> None:
    nodes = [node("Neg", ["c"], ["d"], name="made"), node("Add", ["x", "d"], ["y"], name="mask")]
    half = to_half(model(nodes, {"c": np.full(4, 3e38, np.float32)}))
    assert [line.partition(" ")[0] for line in half.kept] == ["made", "mask"]


def test_a_constant_node_is_a_weight_like_any_other() -> None:
    constant = node("Constant", [], ["w"], value=numpy_helper.from_array(EYE["w"], "w"))
    half = to_half(model([constant, node("MatMul", ["x", "w"], ["y"])], {}))
    assert [n.op_type for n in half.model.graph.node] == ["MatMul"]
    assert [w.name for w in half.model.graph.initializer] == ["w__half"]


def test_inputs_that_the_schema_wants_in_float32_stay_so() -> None:
    """Resize takes its scales as float32, whatever it resizes."""
    nodes = [node("Resize", ["x", "", "scales"], ["y"], mode="nearest")]
    half = to_half(model(nodes, {"scales": np.array([1, 1], np.float32)}))
    assert (half.kept, types(half)) == ((), {"x": FLOAT16, "y": FLOAT16})
    assert [(w.name, w.data_type) for w in half.model.graph.initializer] == [("scales", FLOAT)]


def test_a_constant_that_is_not_a_number_is_refused_by_name() -> None:
    with pytest.raises(EngineError, match="constant 'w' is not a number"):
        to_half(model([node("MatMul", ["x", "w"], ["y"])], {"w": np.full((4, 4), np.nan, np.float32)}))


def test_a_graph_that_is_none_is_refused_in_one_line() -> None:
    with pytest.raises(EngineError, match="cannot be made FP16") as error:
        to_half(model([node("Relu", ["nowhere"], ["y"])], {}))
    assert "\n" not in str(error.value)
