"""Cut points, found from the graph: where exactly one tensor is live.

The graph is swept in topological order. A node that depends on no graph input is a constant, whatever its operator:
constants are copied into every segment that uses them and never cross a cut (zoo models whose weights are computed
by ConstantOfShape nodes would have almost no cuts otherwise). What remains is a chain of *finest* units; ``group``
merges them into as many units as wanted, balanced by arithmetic.
"""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Set, Tuple

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.engines.manifest import TensorInfo


class Unit(NamedTuple):
    """Nodes between two successive cuts. ``entering``: the one tensor that enters; bytes are for one input."""

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


def load_model(path: Path) -> Any:
    """The ONNX model at ``path``, checked, with shapes inferred. Raises EngineError in one line."""
    import onnx

    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model)
    except FileNotFoundError as error:
        raise EngineError(f"{path}: no such file: give the path of an .onnx file") from error
    except Exception as error:  # onnx and protobuf raise half a dozen unrelated types for a damaged file
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineError(f"{path}: not a usable ONNX model ({line}): export it again") from error


def cut(model: Any) -> CutModel:
    """Cut ``model`` at every point where one tensor is live."""
    graph = model.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initializers]
    if len(inputs) != 1:
        raise EngineError(f"the model has {len(inputs)} inputs; one is supported: {[v.name for v in inputs]}")
    constants = _constant_values(graph, set(initializers))
    infos = {value.name: value for value in [*graph.value_info, *graph.input, *graph.output]}
    last_use = _last_uses(graph)
    runs = _runs(graph, inputs[0].name, constants, last_use)
    units: List[Unit] = []
    for entering, nodes in runs:
        weights = {name for i in nodes for name in graph.node[i].input if name in initializers}
        memory = sum(_tensor_bytes(initializers[name]) for name in weights)
        flops = sum(_flops(graph.node[i], initializers, infos) for i in nodes)
        name = graph.node[nodes[0]].name or graph.node[nodes[0]].op_type
        units.append(Unit(name, tuple(nodes), tensor_info(infos, entering), memory, flops))
    return CutModel(model, tuple(units), tuple(tensor_info(infos, value.name) for value in graph.output))


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


def tensor_info(infos: Dict[str, Any], name: str) -> TensorInfo:
    import onnx

    if name not in infos or not infos[name].type.tensor_type.HasField("shape"):
        raise EngineError(f"tensor {name}: its shape cannot be inferred: export the model with shapes")
    tensor = infos[name].type.tensor_type
    dims = tuple(
        dim.dim_value if dim.HasField("dim_value") else "batch" if axis == 0 else (dim.dim_param or "?")
        for axis, dim in enumerate(tensor.shape.dim)
    )
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    return TensorInfo(name, dtype, dims)


def _constant_values(graph: Any, known: Set[str]) -> Set[str]:
    """Names of all values that depend on no graph input."""
    constants = set(known)
    for node in graph.node:
        if all(name in constants for name in node.input if name):
            constants.update(node.output)
    return constants


def _last_uses(graph: Any) -> Dict[str, int]:
    uses = {name: i for i, node in enumerate(graph.node) for name in node.input}
    uses.update({value.name: len(graph.node) for value in graph.output})
    return uses


def _runs(graph: Any, start: str, constants: Set[str], last_use: Dict[str, int]) -> List[Tuple[str, List[int]]]:
    """(entering tensor, node indices) of each finest unit. Constant nodes belong to no unit: they are copied."""
    runs: List[Tuple[str, List[int]]] = [(start, [])]
    live = {start}
    for i, node in enumerate(graph.node):
        if node.output and all(name in constants for name in node.output):
            continue
        if len(live) == 1 and runs[-1][1]:
            runs.append((next(iter(live)), []))
        runs[-1][1].append(i)
        live.update(name for name in node.output if name and last_use.get(name, -1) > i)
        live = {name for name in live if last_use.get(name, -1) > i}
    return runs


def _tensor_bytes(tensor: Any) -> int:
    import onnx

    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return int(np.prod(tensor.dims, dtype=np.int64)) * int(dtype.itemsize)


def _flops(node: Any, initializers: Dict[str, Any], infos: Dict[str, Any]) -> int:
    """Multiply-adds times two for convolutions and matrix products; one per output element for the rest."""
    output = node.output[0]
    if output not in infos:
        return 0
    dims = [dim.dim_value or 1 for dim in infos[output].type.tensor_type.shape.dim]
    elements = int(np.prod(dims, dtype=np.int64))
    weight = initializers.get(node.input[1]) if len(node.input) > 1 else None
    if node.op_type == "Conv" and weight is not None:
        return 2 * elements * int(np.prod(weight.dims[1:], dtype=np.int64))
    if node.op_type in ("Gemm", "MatMul") and weight is not None:
        return 2 * elements * int(max(weight.dims[0], weight.dims[-1]) if node.op_type == "Gemm" else weight.dims[0])
    return elements
