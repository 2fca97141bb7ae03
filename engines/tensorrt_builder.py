"""One engine from one ONNX file, with whichever TensorRT there is. The door to the builder's API.

Networks are strongly typed where the version has that: the types are the graph's own (see ``half``); on 8.x the flag
lets TensorRT choose FP16. The batch is the one free axis: an optimisation profile says its smallest, usual and largest
value. The timing cache is one file per device type and version, read before and replaced whole after a build.
"""

from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

from pamdi.core.errors import EngineError
from pamdi.engines.tensorrt_versions import Version, version_row

BACKENDS = ("tensorrt", "tensorrt-rtx")
ERRORS_KEPT = 8


class Settings(NamedTuple):
    """``batches``: smallest, usual, largest. ``target``: the compute capability to build for, where the version takes
    one. ``fp16``, ``int8``: flags on versions without strongly typed networks; elsewhere the graph says it."""

    batches: Tuple[int, int, int]
    workspace_bytes: int
    fp16: bool
    target: str = ""
    timing_cache: Optional[Path] = None
    int8: bool = False


class Built(NamedTuple):
    """``layer_types``: of the layers of the network that was built, by TensorRT's own names, sorted."""

    plan: bytes
    layers: int
    layer_types: Tuple[str, ...]


class Bindings(NamedTuple):
    """The vendor's module and what is known of its version."""

    trt: Any
    row: Version
    version: str


def open_bindings(backend: str) -> Bindings:
    """Import TensorRT's bindings. Raises EngineError with what to install."""
    try:
        if backend == "tensorrt-rtx":
            import onnxruntime_ep_nv_tensorrt_rtx  # noqa: F401  its import loads the libraries that it carries
            import tensorrt_rtx_bindings as trt

            return Bindings(trt, version_row(trt.__version__, rtx=True), trt.__version__)
        import tensorrt as trt
    except ImportError as error:
        cure = {
            "tensorrt-rtx": "pip install onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0 "
            "tensorrt-rtx-cu13-bindings==1.7.1.116 (x86-64)",
            "tensorrt": "on a Jetson it is JetPack's: apt install python3-libnvinfer, and make the venv with "
            "--system-site-packages",
        }[backend]
        line = (str(error) or "ImportError").splitlines()[0]
        raise EngineError(f"backend {backend}: not installed here ({line}): {cure}") from error
    return Bindings(trt, version_row(trt.__version__), trt.__version__)


class _Log:
    """What TensorRT says, its errors kept: they are the reason when it answers with nothing."""

    def __init__(self) -> None:
        self.errors: List[str] = []

    def lines(self) -> str:
        return "; ".join(self.errors[-2:]) or "no reason given"


def _logger(trt: Any, log: _Log) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR) and len(log.errors) < ERRORS_KEPT:
                log.errors.append(" ".join(message.split()))

    return Logger()


def build_plan(bindings: Bindings, onnx: Path, settings: Settings, go_on: Callable[[str], bool]) -> Built:
    """Build the ONNX file into a plan. ``go_on(phase)`` is asked at every step where the version can ask: False stops.
    Raises EngineError with TensorRT's own reason."""
    trt, row = bindings.trt, bindings.row
    log = _Log()
    logger = _logger(trt, log)
    builder = trt.Builder(logger)
    network = builder.create_network(_creation_flags(trt, row))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        reason = "; ".join(_faults(parser, row)) or log.lines()
        raise EngineError(f"{onnx.name}: TensorRT {bindings.version} cannot read it: {reason}")
    config = builder.create_builder_config()
    _configure(trt, row, config, settings)
    config.add_optimization_profile(_profile(builder, network, settings.batches))
    monitor = _monitor(trt, row, go_on)
    if monitor is not None:
        config.progress_monitor = monitor
    cache = _read_cache(config, settings.timing_cache) if row.timing_cache else None
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        if monitor is not None and monitor.stopped:
            raise EngineError(f"{onnx.name}: the build was stopped: run it again to go on")
        raise EngineError(
            f"{onnx.name}: TensorRT {bindings.version} makes no engine of it within "
            f"{settings.workspace_bytes} bytes of workspace: {log.lines()}"
        )
    _write_cache(cache, settings.timing_cache)
    types = tuple(sorted(network.get_layer(i).type.name for i in range(network.num_layers)))
    return Built(bytes(plan), network.num_layers, types)


def _faults(parser: Any, row: Version) -> List[str]:
    """What the parser found, two lines at most. Its own text may be as short as "false": the operator is named."""
    lines = []
    for i in range(min(parser.num_errors, 2)):
        fault = parser.get_error(i)
        where = f"{fault.node_operator()} {fault.node_name()!r}: " if row.named_faults else f"node {fault.node()}: "
        lines.append(where + " ".join(fault.desc().split()))
    return lines


def _creation_flags(trt: Any, row: Version) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    names = ["STRONGLY_TYPED"] if row.strongly_typed else []
    if row.explicit_batch:
        names.append("EXPLICIT_BATCH")
    return sum(1 << int(getattr(flags, name)) for name in names)


def _configure(trt: Any, row: Version, config: Any, settings: Settings) -> None:
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if settings.fp16 and not row.strongly_typed:
        config.set_flag(getattr(trt.BuilderFlag, "FP16"))  # noqa: B009  absent in 11
    if settings.int8 and not row.strongly_typed:
        config.set_flag(getattr(trt.BuilderFlag, "INT8"))  # noqa: B009  absent in 11
    if row.targets and settings.target:
        config.num_compute_capabilities = 1
        config.set_compute_capability(_capability(trt, settings.target), 0)


def _capability(trt: Any, target: str) -> Any:
    name = "SM" + target.replace(".", "")
    known = trt.ComputeCapability.__members__
    if name not in known:
        there = ", ".join(name for name in known if name.startswith("SM"))
        raise EngineError(f"compute capability {target}: this TensorRT builds for {there}: choose one of them")
    return known[name]


def _profile(builder: Any, network: Any, batches: Tuple[int, int, int]) -> Any:
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        profile.set_shape(
            tensor.name, *(tuple(batch if size < 0 else size for size in tensor.shape) for batch in batches)
        )
    return profile


def _monitor(trt: Any, row: Version, go_on: Callable[[str], bool]) -> Any:
    if not row.progress_monitor:
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped = False

        def phase_start(self, phase_name: str, parent_phase: Optional[str], num_steps: int) -> None:
            self.stopped = not go_on(phase_name) or self.stopped

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.stopped = not go_on(phase_name) or self.stopped
            return not self.stopped

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()


def _read_cache(config: Any, path: Optional[Path]) -> Any:
    """The timing cache of this device type, empty where the file is absent or not TensorRT's."""
    if path is None:
        return None
    data = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _write_cache(cache: Any, path: Optional[Path]) -> None:
    if cache is None or path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_bytes(bytes(cache.serialize()))
    temporary.replace(path)
