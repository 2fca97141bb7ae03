"""Cut points, found from the graph: where one tensor is live, or, where a graph has no such point, as few as possible.

The graph is swept in topological order. A node that depends on no graph input is a constant, whatever its operator:
constants are copied into every segment that uses them and never cross a cut (zoo models whose weights are computed
by ConstantOfShape nodes would have almost no cuts otherwise). A tensor that cannot travel (its dtype has no wire
format, or an axis other than the batch has no fixed size) is no part of a cut. What remains is a chain of *finest*
units; ``group`` merges them into as many units as wanted, balanced by arithmetic.

A cut of several tensors sends more and is harder to follow, so there is none where one tensor does. But a mask that
every layer reads is live throughout, and the whole network would be one unit: a unit that holds more than half of the
model's arithmetic is split again, at its narrowest points. A tensor that is live across a whole unit goes around it:
it is among what leaves, and the unit's own graph neither makes it nor needs to take it.
"""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.core.tensors import DTYPE_BYTES
from pamdi.engines.flops import flops_of
from pamdi.engines.manifest import TensorInfo
from pamdi.engines.onnx_file import OnnxFile, read_onnx

# Drawn anew wherever they are copied to: never constants, even when they depend on no input.
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
SPLIT_SHARE = 0.5  # a unit with more of the model's arithmetic is split at cuts of several tensors
CUT_TENSORS_MAX = 8

Live = Tuple[str, ...]


class Unit(NamedTuple):
    """Nodes between two successive cuts. ``entering``: the tensors that enter; bytes are for one input.

    ``constants``: the initializers that its nodes read, directly or through constant nodes. ``memory_bytes`` counts
    the constants that its nodes read; one shared by merged units counts in each.
    """

    name: str
    nodes: Tuple[int, ...]
    entering: Tuple[TensorInfo, ...]
    memory_bytes: int
    flops: int
    constants: Tuple[str, ...] = ()

    @property
    def bytes_in(self) -> int:
        return sum(tensor.item_bytes for tensor in self.entering)


class CutModel(NamedTuple):
    """A loaded ONNX model, its units, and its outputs."""

    proto: Any
    units: Tuple[Unit, ...]
    outputs: Tuple[TensorInfo, ...]

    @property
    def boundaries(self) -> Tuple[Tuple[TensorInfo, ...], ...]:
        return (*(unit.entering for unit in self.units), self.outputs)


class _Graph(NamedTuple):
    """What the sweep needs to know. ``batch``: the symbol of the inputs' first axis, None where it is fixed."""

    nodes: Any
    initializers: Dict[str, Any]
    infos: Dict[str, Any]
    constants: Set[str]
    makers: Dict[str, int]
    last_use: Dict[str, int]
    batch: Optional[str]


class _Point(NamedTuple):
    """A point between two nodes where all that is live may travel: node indices ``< node`` are before it."""

    node: int
    live: Live


def load_model(path: Path) -> Any:
    """The ONNX model at ``path`` less its large weights, checked, with shapes inferred. Raises EngineError in one
    line."""
    return read_onnx(path).proto


def cut_file(path: Path, units: Optional[int] = None) -> Tuple[CutModel, OnnxFile]:
    """The model at ``path``, cut everywhere or grouped into ``units``, and where its weights lie."""
    file = read_onnx(path)
    model = cut(file.proto)
    return (model if units is None else group(model, units)), file


def cut(model: Any) -> CutModel:
    """Cut ``model`` at every point where one tensor is live, and where that leaves most of it in one unit, at the
    narrowest points of that unit. Raises EngineError for a model that cannot be cut."""
    inputs = _inputs(model.graph)
    _refuse_captures(model.graph)
    graph = _graph(model.graph, inputs)
    nodes = [i for i, node in enumerate(graph.nodes) if not _is_constant(graph, node)]
    if not inputs or not nodes:
        raise EngineError("the model computes nothing from its input: there is nothing to cut")
    start = _Point(0, tuple(value.name for value in inputs))
    points = _points(graph, nodes, start)
    sizes = _sizes(model)
    arithmetic = {i: flops_of(graph.nodes[i], lambda name: sizes.get(name) or _dims(graph, name)) for i in nodes}
    single = [start, *(point for point in points if len(point.live) == 1)]
    outputs = {value.name for value in model.graph.output}
    chosen = _that_make(_split(single, points, arithmetic, len(graph.nodes)), outputs)
    units = []
    for point, after in zip(chosen, [*chosen[1:], _Point(len(graph.nodes), ())]):
        inside = [i for i in nodes if point.node <= i < after.node]
        units.append(_unit(graph, point.live, inside, sum(arithmetic[i] for i in inside)))
    return CutModel(model, tuple(units), tuple(_travelling(graph, value.name) for value in model.graph.output))


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
        constants = tuple(dict.fromkeys(name for part in parts for name in part.constants))
        merged.append(Unit(parts[0].name, nodes, parts[0].entering, memory, flops, constants))
    return model._replace(units=tuple(merged))


def _inputs(graph: Any) -> List[Any]:
    """The graph's inputs. IR 3 lists initializers among them: those are constants."""
    initializers = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in initializers]


def _graph(graph: Any, inputs: List[Any]) -> _Graph:
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    infos = {value.name: value for value in [*graph.value_info, *graph.input, *graph.output]}
    uses = {name: i for i, node in enumerate(graph.node) for name in node.input}
    uses.update({value.name: len(graph.node) for value in graph.output})
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    first_axes = [value.type.tensor_type.shape.dim[0].dim_param for value in inputs if _has_axes(value)]
    batch = next((symbol for symbol in first_axes if symbol), None)
    return _Graph(graph.node, initializers, infos, _constant_values(graph, set(initializers)), makers, uses, batch)


def _has_axes(value: Any) -> bool:
    return len(value.type.tensor_type.shape.dim) > 0


def _is_constant(graph: _Graph, node: Any) -> bool:
    """Constant nodes belong to no unit: they are copied."""
    return bool(node.output) and all(name in graph.constants for name in node.output)


def _points(graph: _Graph, nodes: List[int], start: _Point) -> List[_Point]:
    """Every point between two nodes where what is live differs from the point before and can travel."""
    live: Dict[str, None] = dict.fromkeys(start.live)  # in the order of their making
    points: List[_Point] = []
    before = start.live
    for i, after in zip(nodes, nodes[1:]):
        live.update(dict.fromkeys(name for name in graph.nodes[i].output if name))
        live = {name: None for name in live if graph.last_use.get(name, -1) > i}
        names = tuple(live)
        travel = 0 < len(names) <= CUT_TENSORS_MAX and all(_tensor_info(graph, name) is not None for name in names)
        if travel and names != before:
            points.append(_Point(after, names))
            before = names
    return points


def _split(cuts: List[_Point], points: List[_Point], arithmetic: Dict[int, int], end: int) -> List[_Point]:
    """``cuts``, and within each unit that holds more than its share of the arithmetic, its narrowest points."""
    limit = SPLIT_SHARE * sum(arithmetic.values())
    chosen: List[_Point] = []
    for point, stop in zip(cuts, [*(cut.node for cut in cuts[1:]), end]):
        chosen.append(point)
        inside = [other for other in points if point.node < other.node < stop]
        if inside and sum(flops for i, flops in arithmetic.items() if point.node <= i < stop) > limit:
            width = min(len(other.live) for other in inside)
            narrow = [other for other in inside if len(other.live) == width]
            chosen[-1:] = _split([point, *narrow], inside, arithmetic, stop)
    return chosen


def _that_make(chosen: List[_Point], outputs: Set[str]) -> List[_Point]:
    """Without the points that nothing new has reached since the one before: a unit makes something, or is none."""
    kept = chosen[:1]
    for point in chosen[1:]:
        if not set(point.live) <= set(kept[-1].live):
            kept.append(point)
    while outputs <= set(kept[-1].live):
        kept.pop()
        if not kept:
            raise EngineError("the model computes nothing from its input: there is nothing to cut")
    return kept


def _unit(graph: _Graph, entering: Live, nodes: List[int], flops: int) -> Unit:
    read = {name for i in nodes for name in graph.nodes[i].input if name in graph.constants}
    memory = sum(_constant_bytes(graph, name) for name in read)
    first = graph.nodes[nodes[0]]
    tensors = tuple(_travelling(graph, name) for name in entering)
    return Unit(first.name or first.op_type, tuple(nodes), tensors, memory, flops, _initializers(graph, read))


def _initializers(graph: _Graph, read: Set[str]) -> Tuple[str, ...]:
    """The initializers that the constants ``read`` are or are made of, in the graph's order."""
    reached, left = set(), list(read)
    while left:
        name = left.pop()
        if name and name not in reached:
            reached.add(name)
            left.extend(graph.nodes[graph.makers[name]].input if name in graph.makers else ())
    return tuple(name for name in graph.initializers if name in reached)


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


def _sizes(model: Any) -> Dict[str, List[int]]:
    """Sizes of all values for one input: inferred again with the batch as 1, since a value of [64 * batch, 768] has
    no size otherwise."""
    import onnx

    one = onnx.ModelProto()
    one.CopyFrom(model)
    del one.graph.value_info[:]
    for dim in [dim for value in one.graph.input for dim in value.type.tensor_type.shape.dim]:
        dim.dim_value = dim.dim_value or 1
    for dim in [dim for value in one.graph.output for dim in value.type.tensor_type.shape.dim]:
        dim.ClearField("dim_param")
    graph = onnx.shape_inference.infer_shapes(one, data_prop=True).graph
    sizes = {}
    for value in [*graph.value_info, *graph.input, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            sizes[value.name] = [int(dim.dim_value) for dim in dims]
    return {**sizes, **{tensor.name: list(tensor.dims) for tensor in graph.initializer}}


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
