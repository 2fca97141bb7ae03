"""Cut points, found from the graph: where exactly one tensor is live.

The graph is swept in topological order. A node that depends on no graph input is a constant, whatever its operator:
constants are copied into every segment that uses them and never cross a cut (zoo models whose weights are computed
by ConstantOfShape nodes would have almost no cuts otherwise). A tensor that cannot travel (its dtype has no wire
format, or an axis other than the batch has no fixed size) is no cut. What remains is a chain of *finest* units;
``group`` merges them into as many units as wanted, balanced by arithmetic.
"""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.core.tensors import DTYPE_BYTES
from pamdi.engines.manifest import TensorInfo

# Drawn anew wherever they are copied to: never constants, even when they depend on no input.
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


class Unit(NamedTuple):
    """Nodes between two successive cuts. ``entering``: the one tensor that enters; bytes are for one input.

    ``memory_bytes`` counts the constants that its nodes read; one shared by merged units counts in each.
    """

    name: str
    nodes: Tuple[int, ...]
    entering: TensorInfo
    memory_bytes: int
    flops: int


class CutModel(NamedTuple):
    """A loaded ONNX model, its units, and its outputs."""

    proto: Any
    units: Tuple[Unit, ...]
    outputs: Tuple[TensorInfo, ...]

    @property
    def boundaries(self) -> Tuple[Tuple[TensorInfo, ...], ...]:
        return (*((unit.entering,) for unit in self.units), self.outputs)


class _Graph(NamedTuple):
    """What the sweep needs to know. ``batch``: the symbol of the input's first axis, None where it is fixed."""

    nodes: Any
    initializers: Dict[str, Any]
    infos: Dict[str, Any]
    constants: Set[str]
    last_use: Dict[str, int]
    batch: Optional[str]


def load_model(path: Path) -> Any:
    """The ONNX model at ``path``, checked, with shapes inferred. Raises EngineError in one line."""
    try:
        import onnx
    except ImportError as error:
        raise EngineError("onnx is not installed: cut and export on a desk, with pip install 'pamdi[tools]'") from error
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        for value in _inputs(model.graph):
            _name_batch(value)
        return onnx.shape_inference.infer_shapes(model)
    except FileNotFoundError as error:
        raise EngineError(f"{path}: no such file: give the path of an .onnx file") from error
    except Exception as error:  # onnx and protobuf raise half a dozen unrelated types for a damaged file
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineError(f"{path}: not a usable ONNX model ({line}): export it again") from error


def cut(model: Any) -> CutModel:
    """Cut ``model`` at every point where one tensor is live. Raises EngineError for a model that cannot be cut."""
    inputs = _inputs(model.graph)
    if len(inputs) != 1:
        raise EngineError(f"the model has {len(inputs)} inputs; one is supported: {[v.name for v in inputs]}")
    _refuse_captures(model.graph)
    graph = _graph(model.graph, inputs[0])
    units = tuple(_unit(graph, entering, nodes) for entering, nodes in _runs(graph, inputs[0].name))
    return CutModel(model, units, tuple(_travelling(graph, value.name) for value in model.graph.output))


def group(model: CutModel, count: int) -> CutModel:
    """Merge units into ``count``, balanced by FLOPs. Each merged unit keeps the name of its first."""
    finest = model.units
    if not 1 <= count <= len(finest):
        raise EngineError(f"{count} units are not possible: the model has cut points for 1 to {len(finest)}")
    ends = np.cumsum([unit.flops + 1 for unit in finest])
    firsts = [0]
    for k in range(1, count):
        wanted = ends[-1] * k / count
        best = min(range(firsts[-1] + 1, len(finest) - (count - k) + 1), key=lambda i: abs(ends[i - 1] - wanted))
        firsts.append(best)
    merged = []
    for first, stop in zip(firsts, [*firsts[1:], len(finest)]):
        parts = finest[first:stop]
        nodes = tuple(node for part in parts for node in part.nodes)
        memory, flops = sum(part.memory_bytes for part in parts), sum(part.flops for part in parts)
        merged.append(Unit(parts[0].name, nodes, parts[0].entering, memory, flops))
    return model._replace(units=tuple(merged))


def _inputs(graph: Any) -> List[Any]:
    """The graph's inputs. IR 3 lists initializers among them: those are constants."""
    initializers = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in initializers]


def _name_batch(value: Any) -> None:
    """Give a nameless first axis a name, so that shape inference can follow it through the graph."""
    dims = value.type.tensor_type.shape.dim
    if dims and not dims[0].WhichOneof("value"):
        dims[0].dim_param = "batch"


def _graph(graph: Any, start: Any) -> _Graph:
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    infos = {value.name: value for value in [*graph.value_info, *graph.input, *graph.output]}
    uses = {name: i for i, node in enumerate(graph.node) for name in node.input}
    uses.update({value.name: len(graph.node) for value in graph.output})
    dims = start.type.tensor_type.shape.dim
    batch = (dims[0].dim_param or None) if dims else None
    return _Graph(graph.node, initializers, infos, _constant_values(graph, set(initializers)), uses, batch)


def _unit(graph: _Graph, entering: str, nodes: List[int]) -> Unit:
    constants = {name for i in nodes for name in graph.nodes[i].input if name in graph.constants}
    memory = sum(_constant_bytes(graph, name) for name in constants)
    flops = sum(_flops(graph, graph.nodes[i]) for i in nodes)
    first = graph.nodes[nodes[0]]
    return Unit(first.name or first.op_type, tuple(nodes), _travelling(graph, entering), memory, flops)


def _travelling(graph: _Graph, name: str) -> TensorInfo:
    """What is known of a tensor at a boundary. Raises EngineError where that is not enough to send it."""
    info = _tensor_info(graph, name)
    if info is None:
        raise EngineError(
            f"tensor {name!r} cannot travel between devices: give it one of the dtypes {', '.join(DTYPE_BYTES)} and "
            "fixed sizes on every axis but the batch, and export the model again"
        )
    return info


def _tensor_info(graph: _Graph, name: str) -> Optional[TensorInfo]:
    """None for a tensor that cannot travel: unknown shape, a free axis besides the batch, or no wire format."""
    import onnx

    if name not in graph.infos or not graph.infos[name].type.tensor_type.HasField("shape"):
        return None
    tensor = graph.infos[name].type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    dims: List[Any] = [
        dim.dim_value if dim.HasField("dim_value") else "batch" if axis == 0 and dim.dim_param == graph.batch else None
        for axis, dim in enumerate(tensor.shape.dim)
    ]
    return None if dtype not in DTYPE_BYTES or None in dims else TensorInfo(name, dtype, tuple(dims))


def _constant_values(graph: Any, known: Set[str]) -> Set[str]:
    """Names of all values that depend on no graph input."""
    constants = set(known)
    for node in graph.node:
        if node.op_type not in RANDOM and all(name in constants for name in node.input if name):
            constants.update(node.output)
    return constants


def _refuse_captures(graph: Any) -> None:
    """A branch or loop body may read values that are not among its node's inputs: no cut could be trusted then."""
    for node in graph.node:
        captured = sorted({name for body in _bodies(node) for name in _captures(body)})
        if captured:
            raise EngineError(
                f"operator {node.name or node.op_type} reads {captured[0]!r} from within a branch or loop: such models "
                "cannot be cut; export it with constant control flow"
            )


def _bodies(node: Any) -> List[Any]:
    return [
        body for attribute in node.attribute for body in [attribute.g, *attribute.graphs] if body.node or body.output
    ]


def _captures(body: Any) -> Set[str]:
    """Names that ``body`` reads and does not define."""
    defined = {value.name for value in [*body.input, *body.initializer]} | {
        o for node in body.node for o in node.output
    }
    read = {name for node in body.node for name in node.input if name} | {value.name for value in body.output}
    for node in body.node:
        for inner in _bodies(node):
            read |= _captures(inner)
    return read - defined


def _runs(graph: _Graph, start: str) -> List[Tuple[str, List[int]]]:
    """(entering tensor, node indices) of each finest unit. Constant nodes belong to no unit: they are copied."""
    runs: List[Tuple[str, List[int]]] = [(start, [])]
    live = {start}
    for i, node in enumerate(graph.nodes):
        if node.output and all(name in graph.constants for name in node.output):
            continue
        if len(live) == 1 and runs[-1][1] and _tensor_info(graph, next(iter(live))) is not None:
            runs.append((next(iter(live)), []))
        runs[-1][1].append(i)
        live.update(name for name in node.output if name)
        live = {name for name in live if graph.last_use.get(name, -1) > i}
    if not runs[0][1]:
        raise EngineError("the model computes nothing from its input: there is nothing to cut")
    return runs


def _dims(graph: _Graph, name: str) -> Optional[List[int]]:
    """Sizes of any value, free axes as 1; None where they are not known."""
    if name in graph.initializers:
        return list(graph.initializers[name].dims)
    if name not in graph.infos or not graph.infos[name].type.tensor_type.HasField("shape"):
        return None
    return [dim.dim_value or 1 for dim in graph.infos[name].type.tensor_type.shape.dim]


def _constant_bytes(graph: _Graph, name: str) -> int:
    import onnx

    dims = _dims(graph, name)
    if dims is None:
        return 0
    known = graph.initializers.get(name)
    element = known.data_type if known is not None else graph.infos[name].type.tensor_type.elem_type
    return int(np.prod(dims, dtype=np.int64)) * int(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element)).itemsize)


def _flops(graph: _Graph, node: Any) -> int:
    """Multiply-adds times two for convolutions and matrix products; one per output element for the rest."""
    dims = _dims(graph, node.output[0])
    if dims is None:
        return 0
    elements = int(np.prod(dims, dtype=np.int64))
    weight = _dims(graph, node.input[1]) if len(node.input) > 1 else None
    if node.op_type == "Conv" and weight:
        return 2 * elements * int(np.prod(weight[1:], dtype=np.int64))
    if node.op_type == "Gemm" and weight:
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 2 * elements * weight[1 if transposed else 0]
    if node.op_type == "MatMul" and weight:
        return 2 * elements * weight[-2 if len(weight) > 1 else 0]
    return elements
