"""FP16 within an ONNX graph: weights and activations halve, what would lose by it stays in FP32, and is named.

TensorRT 10 and 11 take strongly typed networks, so the types are decided here and nowhere else. Every node is either
*half* or *kept*. A kept node reads and makes float32: normalisations, softmax, reductions and powers, whose sums leave
FP16's range or drown its ten bits; nodes whose constants FP16 cannot hold; operators whose ONNX schema has no float16.
A cast stands only where a half value meets a kept node or the reverse, once per value: what one kept node hands to the
next never passes through FP16.

Two converters were tried first. onnxruntime.transformers.float16 (1.32, well kept) clips constants beyond 65504 without
a word (GPT-2's causal mask), and its graphs come out of topological order, which the ONNX checker refuses for all three
of our models. onnxconverter-common's is the ancestor of the same file. Both also keep by operator name alone; here the
schema of each operator says which of its inputs may be halved.
"""

from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from pamdi.core.errors import EngineError

HALF_MAX = 65504.0
HALF_NORMAL_MIN = 6.104e-05  # below, FP16 loses bits with every halving
SENSITIVE = frozenset(
    (
        "CumSum", "Exp", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "Log", "LogSoftmax",
        "LpNormalization", "MeanVarianceNormalization", "Pow", "RMSNormalization", "Reciprocal", "ReduceL1", "ReduceL2",
        "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare",
        "SimplifiedLayerNormalization", "Softmax", "Sqrt",
    )
)  # fmt: skip
TYPED_BY_ATTRIBUTE = ("Cast", "CastLike", "ConstantOfShape", "EyeLike", "Range")  # their output's type is not ours


class Half(NamedTuple):
    """``kept``: one line per node left in FP32: its name, operator and why. ``casts``: how many were put in."""

    model: Any
    kept: Tuple[str, ...]
    casts: int


def to_half(model: Any, float_boundaries: FrozenSet[str] = frozenset()) -> Half:
    """A copy of ``model`` (an onnx ModelProto) in FP16. Inputs and outputs become float16 too, but for those named in
    ``float_boundaries``, which stay float32 with a cast inside. Raises EngineError in one line."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model)
        conversion = _Conversion(inferred, float_boundaries)
        for node in inferred.graph.node:
            conversion.add(node)
        half = conversion.finished()
        onnx.checker.check_model(half, full_check=True)
    except EngineError:
        raise
    except Exception as error:  # onnx and protobuf raise half a dozen unrelated types
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(
            f"{model.graph.name}: cannot be made FP16 ({line}): build it with --precision fp32"
        ) from error
    return Half(half, tuple(conversion.kept), conversion.casts)


class _Conversion:
    """``types``: the element type each value has now; ``first``: the one it had. Nodes come in topological order."""

    def __init__(self, model: Any, float_boundaries: FrozenSet[str]) -> None:
        from onnx import TensorProto

        self.full, self.half = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
        self._model, self._boundaries = model, float_boundaries
        self._opsets = {opset.domain: opset.version for opset in model.opset_import}
        graph = model.graph
        self._weights: Dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        values = [*graph.value_info, *graph.input, *graph.output]
        self._first = {value.name: value.type.tensor_type.elem_type for value in values}
        self._first.update({name: tensor.data_type for name, tensor in self._weights.items()})
        self._types = dict(self._first)
        for value in self._inputs():
            if self._is_halved(value.name):
                self._types[value.name] = self.half
        self._constants: Set[str] = set(self._weights)
        self._beyond: Set[str] = set()  # computed constants that FP16 may not hold
        self._used: Dict[Tuple[str, int], str] = {}
        self._nodes: List[Any] = []
        self.kept: List[str] = []
        self.casts = 0

    def _inputs(self) -> List[Any]:
        return [value for value in self._model.graph.input if value.name not in self._weights]

    def _is_halved(self, name: str) -> bool:
        return self._first.get(name) == self.full and name not in self._boundaries

    def add(self, node: Any) -> None:
        if node.op_type == "Constant" and self._becomes_weight(node):
            return
        constant = all(name in self._constants for name in node.input if name)
        if constant:
            self._constants.update(node.output)
        if node.op_type in TYPED_BY_ATTRIBUTE or not self._touches_floats(node):
            self._nodes.append(self._rewired(node, frozenset()) if node.op_type == "Range" else node)
            return
        why = self._why_kept(node)
        if why:
            self.kept.append(f"{node.name or node.output[0]} ({node.op_type}): {why}")
            if constant:
                self._beyond.update(node.output)
        positions, halved = (frozenset(), False) if why else self._positions(node)
        self._nodes.append(self._rewired(node, positions))
        if halved:
            self._types.update({name: self.half for name in node.output if self._first.get(name) == self.full})

    def _touches_floats(self, node: Any) -> bool:
        return any(self._first.get(name) == self.full for name in [*node.input, *node.output] if name)

    def _becomes_weight(self, node: Any) -> bool:
        """A Constant node with a float tensor is a weight like any other."""
        for attribute in node.attribute:
            if attribute.name == "value" and attribute.t.data_type == self.full:
                self._weights[node.output[0]] = attribute.t
                attribute.t.name = node.output[0]
                self._constants.add(node.output[0])
                self._first[node.output[0]] = self._types[node.output[0]] = self.full
                return True
        return False

    def _why_kept(self, node: Any) -> str:
        """Why this node stays in FP32, or nothing. Raises EngineError for a constant that is not a number."""
        if node.op_type in SENSITIVE:
            return "sums and powers need FP32"
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return "has a body"
        for name in node.input:
            if name in self._beyond:
                return f"reads {name!r}, made of constants kept in FP32"
            why = self._unholdable(name) if name in self._weights else ""
            if why:
                return why
        if any(name and not self._first.get(name) for name in [*node.input, *node.output]):
            return "a type is not known"
        return "" if self._positions(node)[0] else "its schema has no float16"

    def _unholdable(self, name: str) -> str:
        """Why FP16 cannot hold this constant, or nothing. Infinities it can."""
        from onnx import numpy_helper

        tensor = self._weights[name]
        if tensor.data_type != self.full:
            return ""
        array = np.abs(numpy_helper.to_array(tensor))
        if np.isnan(array).any():
            raise EngineError(f"constant {name!r} is not a number: mend the model and export it again")
        if (array[np.isfinite(array)] > HALF_MAX).any():
            return f"constant {name!r} is beyond {HALF_MAX:.0f}"
        if array.size == 1 and 0 < array.max() < HALF_NORMAL_MIN:
            return f"constant {name!r} is too small for FP16"
        return ""

    def _positions(self, node: Any) -> Tuple[FrozenSet[int], bool]:
        """Which inputs the operator's schema lets be float16, and whether its float outputs follow them."""
        schema = self._schema(node)
        if schema is None:
            return frozenset(), False
        allowed = {
            constraint.type_param_str: "tensor(float16)" in constraint.allowed_type_strs
            for constraint in schema.type_constraints
        }
        formal = [schema.inputs[min(i, len(schema.inputs) - 1)].type_str for i in range(len(node.input))]
        positions = frozenset(
            i for i, name in enumerate(node.input) if self._first.get(name) == self.full and allowed.get(formal[i])
        )
        bound = {formal[i] for i in positions}
        outs = [schema.outputs[min(i, len(schema.outputs) - 1)].type_str for i in range(len(node.output))]
        follow = all(
            outs[i] in bound for i, name in enumerate(node.output) if name and self._first.get(name) == self.full
        )
        return (positions, follow) if follow else (frozenset(), False)

    def _schema(self, node: Any) -> Optional[Any]:
        import onnx

        try:
            return onnx.defs.get_schema(node.op_type, self._opsets.get(node.domain, 1), node.domain)
        except onnx.defs.SchemaError:
            return None

    def _rewired(self, node: Any, positions: FrozenSet[int]) -> Any:
        """The node, reading float16 at ``positions`` and what it read before elsewhere."""
        import onnx

        new = onnx.NodeProto()
        new.CopyFrom(node)
        for i, name in enumerate(node.input):
            if name and self._first.get(name) == self.full:
                new.input[i] = self._as(name, self.half if i in positions else self.full)
        return new

    def _as(self, name: str, wanted: int) -> str:
        """The name under which the value can be had with the type ``wanted``: itself, a weight's copy, or a cast."""
        if (name, wanted) not in self._used:
            self._used[name, wanted] = (
                self._weight_as(name, wanted) if name in self._weights else self._cast(name, wanted)
            )
        return self._used[name, wanted]

    def _weight_as(self, name: str, wanted: int) -> str:
        return name if wanted == self.full else f"{name}__half"

    def _cast(self, name: str, wanted: int) -> str:
        from onnx import helper

        if self._types[name] == wanted:
            return name
        cast = f"{name}__{'half' if wanted == self.half else 'float'}"
        self._nodes.append(helper.make_node("Cast", [name], [cast], name=f"cast {cast}", to=wanted))
        self.casts += 1
        return cast

    def finished(self) -> Any:
        """The converted model. Outputs get the type they should have, under the name they had."""
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        for value in self._model.graph.output:
            wanted = self.half if self._is_halved(value.name) else self._first[value.name]
            if self._types[value.name] != wanted:
                self._cast_output(value.name, wanted)
        for values in (graph.input, graph.output):
            for value in values:
                if value.name not in self._weights and self._is_halved(value.name):
                    value.type.tensor_type.elem_type = self.half
        for field in ("node", "initializer", "value_info"):
            graph.ClearField(field)
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._read_weights())
        declared = [value for value in graph.input if value.name not in self._weights]  # IR 3 lists weights there too
        graph.ClearField("input")
        graph.input.extend(declared)
        model.ir_version = max(model.ir_version, 4)
        return model

    def _cast_output(self, name: str, wanted: int) -> None:
        from onnx import helper

        inner = f"{name}__inner"
        for node in self._nodes:
            node.input[:] = [inner if have == name else have for have in node.input]
            node.output[:] = [inner if have == name else have for have in node.output]
        self._nodes.append(helper.make_node("Cast", [inner], [name], name=f"cast {name}", to=wanted))
        self.casts += 1

    def _read_weights(self) -> List[Any]:
        """The weights that some node reads, each in the types that are read."""
        from onnx import numpy_helper

        read = {name for node in self._nodes for name in node.input}
        read.update(value.name for value in self._model.graph.output)
        weights = []
        for name, tensor in self._weights.items():
            if name in read:
                weights.append(tensor)
            if self._weight_as(name, self.half) in read and tensor.data_type == self.full:
                with np.errstate(under="ignore"):
                    array = numpy_helper.to_array(tensor).astype(np.float16)
                weights.append(numpy_helper.from_array(array, self._weight_as(name, self.half)))
        return weights
