"""A TensorRT with no GPU behind it: engines are the ONNX files themselves, and onnxruntime runs them.

Only what our code calls is here, and the contract test holds this file to the same list as the real bindings: a method
that the real ones lack cannot hide here. "Device" addresses are addresses of this process.

FAKE_TENSORRT says what else happens in a build: ``kill`` (as the kernel does when memory ends), ``kill N`` (before the
worker's N-th step, see ``_count``), or the path of a file to wait for before the second engine.
"""

import ctypes
import json
import os
import signal
import sys
import time
from typing import Any, Dict, List

import numpy as np
import onnx
import onnxruntime

__version__ = "10.3.0"
STREAMS: Dict[int, Any] = {}  # by handle: what a stream is asked to do goes through ``put``; see host_memory
FAIL_RUNS: List[bool] = []  # whether each of the next enqueues is refused


_steps = 0


def _count(event: str, arguments: Any) -> None:
    """Kills the worker before its N-th file operation in the model's folder."""
    global _steps
    told = os.environ.get("FAKE_TENSORRT", "")
    if event in ("open", "os.rename", "os.remove", "os.mkdir") and sys.argv[-1] in str(arguments[0]):
        _steps += 1
        if _steps == int(told.partition(" ")[2]):
            os.kill(os.getpid(), signal.SIGKILL)


if os.environ.get("FAKE_TENSORRT", "").startswith("kill "):
    sys.addaudithook(_count)


class _Severity:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger(_Severity):
    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


class Logger(ILogger):
    def __init__(self, min_severity: int = 2) -> None:
        """Silent."""

    def log(self, severity: Any, message: str) -> None:
        """Silent."""


class NetworkDefinitionCreationFlag:
    EXPLICIT_BATCH, STRONGLY_TYPED = 0, 1


class MemoryPoolType:
    WORKSPACE = 0


class ProfilingVerbosity:
    DETAILED = 2


class BuilderFlag:
    FP16 = 0


class TensorIOMode:
    INPUT, OUTPUT = 1, 2


class LayerInformationFormat:
    JSON = 1


class IProgressMonitor:
    """Called by the builder."""


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data or b"timings"


class IBuilderConfig:
    progress_monitor: Any = None
    profiling_verbosity: Any = None

    def set_memory_pool_limit(self, pool: int, pool_size: int) -> None:
        """Fakes need no workspace."""

    def set_flag(self, flag: int) -> None:
        """Types are the graph's."""

    def add_optimization_profile(self, profile: Any) -> int:
        self.profile = profile
        return 0

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        return True


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: Dict[str, Any] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[input] = [min, opt, max]


class ITensor:
    name, shape = "", ()  # type: Any, Any

    def __init__(self, value: Any) -> None:
        self.name = value.name
        self.shape = tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim)


class LayerType:
    def __init__(self, name: str) -> None:
        self.name = name


class ILayer:
    def __init__(self, node: Any) -> None:
        self.type = LayerType(node.op_type.upper())


class INetworkDefinition:
    model: Any = None

    @property
    def num_inputs(self) -> int:
        return len(self.model.graph.input)

    @property
    def num_layers(self) -> int:
        return len(self.model.graph.node)

    def get_input(self, index: int) -> ITensor:
        return ITensor(self.model.graph.input[index])

    def get_layer(self, index: int) -> ILayer:
        return ILayer(self.model.graph.node[index])


class ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text

    def node(self) -> int:
        return 0

    def node_name(self) -> str:
        return ""

    def node_operator(self) -> str:
        return ""


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: List[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse_from_file(self, model: str) -> bool:
        try:
            self._network.model = onnx.load(model)
        except Exception as error:
            self._errors.append(ParserError(str(error)))
            return False
        return True


class Builder:
    built = 0

    def __init__(self, logger: ILogger) -> None:
        """No GPU to look for."""

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
        told = os.environ.get("FAKE_TENSORRT", "")
        if told == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        while told and not told.startswith("kill ") and Builder.built == 1 and not os.path.exists(told):
            time.sleep(0.01)
        Builder.built += 1
        config.progress_monitor.phase_start("tactics", None, 1)
        if not config.progress_monitor.step_complete("tactics", 0):
            return None
        config.progress_monitor.phase_finish("tactics")
        header = json.dumps({"profile": config.profile.shapes}).encode()
        return len(header).to_bytes(4, "little") + header + network.model.SerializeToString()


class ExecutionContextAllocationStrategy:
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class IExecutionContext:
    """``changes`` counts what was set. A graph that was recorded before the last of them gives nonsense, as TensorRT's
    guide warns; and a recording fails unless an enqueue with the same shapes came before."""

    def __init__(self, engine: "ICudaEngine", strategy: int) -> None:
        self._engine = engine
        self._shapes: Dict[str, Any] = {}
        self._addresses: Dict[str, int] = {}
        self._memory_wanted = engine.device_memory_size_v2 if strategy == 2 else 0
        self._enqueued: Any = None
        self.changes = 0

    def set_device_memory(self, memory: int, size: int) -> None:
        self.changes += 1
        self._memory_wanted -= size if memory else 0

    def set_input_shape(self, name: str, shape: Any) -> bool:
        self.changes += 1
        low, _, high = self._engine.profile[name]
        good = all(a <= have <= b for a, have, b in zip(low, shape, high))
        if good:
            self._shapes[name] = tuple(shape)
        return good

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.changes += 1
        self._addresses[name] = memory
        return True

    def get_tensor_shape(self, name: str) -> Any:
        batch = next(iter(self._shapes.values()))[0]
        return tuple(batch if size < 0 else size for size in self._engine.get_tensor_shape(name))

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        return profile_index == 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._memory_wanted > 0 or FAIL_RUNS and FAIL_RUNS.pop(0):
            return False
        shapes, addresses, changes = dict(self._shapes), dict(self._addresses), self.changes
        stream = STREAMS.get(stream_handle)
        if stream is None:
            self._execute(shapes, addresses)
        elif stream.recording:
            if self._enqueued != shapes:
                return False
            stream.put(lambda: self._execute(shapes, addresses, spoilt=self.changes != changes))
        else:
            stream.put(lambda: self._execute(shapes, addresses))
        self._enqueued = shapes
        return True

    def _execute(self, shapes: Dict[str, Any], addresses: Dict[str, int], spoilt: bool = False) -> None:
        feed = {name: _view(self._engine, name, shape, addresses).copy() for name, shape in shapes.items()}
        names = [output.name for output in self._engine.session.get_outputs()]
        for name, array in zip(names, self._engine.session.run(names, feed)):
            _view(self._engine, name, array.shape, addresses)[...] = 0 if spoilt else array


def _view(engine: "ICudaEngine", name: str, shape: Any, addresses: Dict[str, int]) -> Any:
    dtype = engine.dtype(name)
    size = int(np.prod(shape)) * dtype.itemsize
    buffer = (ctypes.c_char * size).from_address(addresses[name])
    return np.frombuffer(buffer, dtype).reshape(shape)


class ICudaEngine:
    device_memory_size_v2 = 1 << 20

    def __init__(self, plan: bytes) -> None:
        size = int.from_bytes(plan[:4], "little")
        self.profile = json.loads(plan[4 : 4 + size])["profile"]
        self.session = onnxruntime.InferenceSession(plan[4 + size :], providers=["CPUExecutionProvider"])
        self._values = [*self.session.get_inputs(), *self.session.get_outputs()]

    @property
    def num_io_tensors(self) -> int:
        return len(self._values)

    def get_tensor_name(self, index: int) -> str:
        return str(self._values[index].name)

    def get_tensor_mode(self, name: str) -> int:
        inputs = [value.name for value in self.session.get_inputs()]
        return TensorIOMode.INPUT if name in inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> Any:
        value = next(value for value in self._values if value.name == name)
        return tuple(size if isinstance(size, int) else -1 for size in value.shape)

    def get_tensor_dtype(self, name: str) -> str:
        value = next(value for value in self._values if value.name == name)
        return str(value.type)

    def dtype(self, name: str) -> Any:
        known = {"float": "float32", "float16": "float16", "int64": "int64"}
        return np.dtype(known[self.get_tensor_dtype(name)[7:-1]])

    def create_execution_context(self, strategy: int = 0) -> IExecutionContext:
        return IExecutionContext(self, strategy)

    def create_engine_inspector(self) -> "EngineInspector":
        return EngineInspector()


class EngineInspector:
    def get_engine_information(self, format: int) -> str:
        return json.dumps({"Layers": []})


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        """No GPU to look for."""

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        try:
            return ICudaEngine(serialized_engine)
        except Exception:
            return None
