"""Starting one engine on a stream: set up and enqueued anew, or replayed as a CUDA graph.

An enqueue costs the CPU tens of kernel launches; a graph of the same kernels is one. What TensorRT's guide asks of
graphs decides the shape of this file. The first enqueue of a shape does work that cannot be recorded, so the first run
of a key is a plain one, the second is recorded, and from then on it is replayed. A graph holds addresses, so the key is
(stream, batch, addresses). And the context from which a graph was recorded must not be changed while the graph is used,
so each key has a context of its own; all contexts of an engine share one block of device memory, since its runs follow
each other. Where a recording fails, or there are ``GRAPHS_MAX`` of them, runs are enqueued as before; nobody waits
for a graph.
"""

from collections import Counter
from typing import Any, Callable, Dict, NamedTuple, Tuple

from pamdi.core.errors import EngineError
from pamdi.engines.device_memory import DeviceMemory
from pamdi.engines.tensorrt_builder import Bindings

GRAPHS_MAX = 16  # per engine: its batches by the places it reads and writes; the first free are used, so a few
Shapes = Dict[str, Tuple[int, ...]]
Key = Tuple[int, int, Tuple[int, ...]]


class Recorded(NamedTuple):
    """A key's own context, and its graph: 0 until the second run."""

    context: Any
    graph: int


class Runs:
    """Of one engine. ``counters``: enqueues, graph_launches, graphs_recorded, graphs_failed."""

    def __init__(
        self, name: str, engine: Any, bindings: Bindings, memory: DeviceMemory, log: Callable[[str], None],
        counters: "Counter[str]",
    ) -> None:  # fmt: skip
        self._name, self._engine, self._bindings, self._memory = name, engine, bindings, memory
        self._log, self._counters = log, counters
        self._recorded: Dict[Key, Recorded] = {}
        self._shared = bindings.row.user_managed
        self._graphs = memory.graphs if self._shared else None
        self._nbytes = max(int(getattr(engine, bindings.row.memory_size)), 1) if self._shared else 0
        self._address = memory.take(self._nbytes) if self._shared else 0
        try:
            self._usual = self._context()
        except Exception:
            self.give_back()
            raise

    def start(self, shapes: Shapes, addresses: Dict[str, int], batch: int, stream: int) -> None:
        """Put one run into the stream. Raises EngineError where TensorRT refuses."""
        key = (stream, batch, tuple(addresses.values()))
        known = self._recorded.get(key)
        if self._graphs is None or (known is None and len(self._recorded) >= GRAPHS_MAX):
            self._enqueue(self._set(self._usual, shapes, addresses), stream)
        elif known is None:
            context = self._set(self._context(), shapes, addresses)
            self._enqueue(context, stream)
            self._recorded[key] = Recorded(context, 0)
        else:
            graph = known.graph or self._record(key, known, stream)
            if graph:
                self._graphs.launch(graph, stream)
                self._counters["graph_launches"] += 1
            else:
                self._enqueue(self._set(self._usual, shapes, addresses), stream)

    def give_back(self) -> None:
        """Nothing of it may still run."""
        for entry in self._recorded.values():
            if entry.graph and self._memory.graphs is not None:
                self._memory.graphs.give_back(entry.graph)
        self._recorded.clear()
        self._usual = None
        if self._address:
            self._memory.give_back(self._address)
            self._address = 0

    def _context(self) -> Any:
        engine = self._engine
        if self._shared:
            strategy = self._bindings.trt.ExecutionContextAllocationStrategy.USER_MANAGED
            context = engine.create_execution_context(strategy)
        else:
            context = engine.create_execution_context()
        if context is None:
            raise EngineError(f"{self._name}: no memory for an execution context: free device memory")
        if self._shared:
            context.set_device_memory(self._address, self._nbytes)
        return context

    def _set(self, context: Any, shapes: Shapes, addresses: Dict[str, int]) -> Any:
        good = all(context.set_input_shape(name, shape) for name, shape in shapes.items())
        for name, address in addresses.items():
            good = context.set_tensor_address(name, address) and good
        if not good:
            raise EngineError(f"{self._name}: TensorRT refuses these shapes: build it again with --batches")
        return context

    def _enqueue(self, context: Any, stream: int) -> None:
        if not context.execute_async_v3(stream):
            raise EngineError(f"{self._name}: TensorRT refuses to run it: build it again with --batches")
        self._counters["enqueues"] += 1

    def _record(self, key: Key, known: Recorded, stream: int) -> int:
        """The graph of this key, or 0: from then on this engine has none."""
        context = known.context
        try:
            graph = self._recording(context, stream)
        except Exception as error:  # a vendor's runtime may raise anything
            self._graphs = None
            self._counters["graphs_failed"] += 1
            self._log(f"{self._name}: runs without CUDA graphs: {error}")
            return 0
        self._recorded[key] = Recorded(context, graph)
        self._counters["graphs_recorded"] += 1
        return graph

    def _recording(self, context: Any, stream: int) -> int:
        """Raises what went wrong; the stream is no longer being recorded then."""
        assert self._graphs is not None
        self._graphs.begin(stream)
        try:
            good = context.execute_async_v3(stream)
        except Exception:
            self._graphs.give_back(self._graphs.end(stream))
            raise
        graph = self._graphs.end(stream)
        if not good:
            self._graphs.give_back(graph)
            raise EngineError("TensorRT refuses to be recorded")
        return graph
