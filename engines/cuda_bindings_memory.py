"""Device memory by NVIDIA's cuda-bindings: the driver's own calls, with stream priorities and graphs."""

import contextlib
import ctypes
from typing import Any, Dict, Iterator, Optional

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.engines.device_memory import Graphs, Pinned, Taken

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING


class CudaBindingsMemory:
    """On GPU 0, in its primary context."""

    def __init__(self) -> None:
        import cuda.bindings
        from cuda.bindings import driver

        self._driver, self._version = driver, str(getattr(cuda.bindings, "__version__", "unknown"))
        self.taken = Taken()
        self._sizes: Dict[int, int] = {}
        try:
            _checked(driver.cuInit(0))
            self._device = _checked(driver.cuDeviceGet(0))
            self._context = _checked(driver.cuDevicePrimaryCtxRetain(self._device))
        except RuntimeError as error:  # no driver on this machine
            raise EngineError(f"cuda-bindings: no NVIDIA driver here ({str(error).splitlines()[0]})") from error
        self.graphs: Optional[Graphs] = CudaGraphs(driver, self.taken)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        _checked(self._driver.cuCtxPushCurrent(self._context))
        try:
            yield
        finally:
            _checked(self._driver.cuCtxPopCurrent())

    def take(self, nbytes: int) -> int:
        address = int(_checked(self._driver.cuMemAlloc(nbytes)))
        self._note(address, nbytes)
        return address

    def give_back(self, address: int) -> None:
        _checked(self._driver.cuMemFree(address))
        self.taken.add("bytes", -self._sizes.pop(address))

    def take_pinned(self, nbytes: int) -> Pinned:
        address = int(_checked(self._driver.cuMemHostAlloc(nbytes, 0)))
        self._note(address, nbytes)
        buffer = (ctypes.c_uint8 * nbytes).from_address(address)
        return Pinned(np.ctypeslib.as_array(buffer), address)

    def give_back_pinned(self, pinned: Pinned) -> None:
        _checked(self._driver.cuMemFreeHost(pinned.key))
        self.taken.add("bytes", -self._sizes.pop(pinned.key))

    def _note(self, address: int, nbytes: int) -> None:
        self._sizes[address] = nbytes
        self.taken.add("bytes", nbytes)

    def stream(self, urgent: bool) -> int:
        least, greatest = self._driver.cuCtxGetStreamPriorityRange()[1:]
        stream = _checked(self._driver.cuStreamCreateWithPriority(NON_BLOCKING, greatest if urgent else least))
        self.taken.add("streams")
        return int(stream)

    def give_back_stream(self, stream: int) -> None:
        _checked(self._driver.cuStreamDestroy(stream))
        self.taken.add("streams", -1)

    def event(self) -> int:
        event = _checked(self._driver.cuEventCreate(NO_TIMING))
        self.taken.add("events")
        return int(event)

    def give_back_event(self, event: int) -> None:
        _checked(self._driver.cuEventDestroy(event))
        self.taken.add("events", -1)

    def mark(self, event: int, stream: int) -> None:
        _checked(self._driver.cuEventRecord(event, stream))

    def hold(self, stream: int, event: int) -> None:
        _checked(self._driver.cuStreamWaitEvent(stream, event, 0))

    def wait_for(self, event: int) -> None:
        _checked(self._driver.cuEventSynchronize(event))

    def to_device(self, address: int, pinned: Pinned, nbytes: int, stream: int, at: int = 0) -> None:
        _checked(self._driver.cuMemcpyHtoDAsync(address, pinned.key + at, nbytes, stream))

    def to_host(self, pinned: Pinned, address: int, nbytes: int, stream: int, at: int = 0) -> None:
        _checked(self._driver.cuMemcpyDtoHAsync(pinned.key + at, address, nbytes, stream))

    def across(self, to: int, address: int, nbytes: int, stream: int) -> None:
        _checked(self._driver.cuMemcpyDtoDAsync(to, address, nbytes, stream))

    def wait(self, stream: int) -> None:
        _checked(self._driver.cuStreamSynchronize(stream))

    def compute_capability(self) -> str:
        kinds = self._driver.CUdevice_attribute
        ask = (kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
        major, minor = (int(_checked(self._driver.cuDeviceGetAttribute(kind, self._device))) for kind in ask)
        return f"{major}.{minor}"

    def describe(self) -> str:
        return f"cuda-bindings {self._version}, with stream priorities and graphs"


class CudaGraphs:
    """Recording is this thread's alone: the loader may allocate meanwhile, which a global recording would forbid."""

    def __init__(self, driver: Any, taken: Taken) -> None:
        self._driver, self._taken = driver, taken
        self._kept: Dict[int, Any] = {}

    def begin(self, stream: int) -> None:
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _checked(self._driver.cuStreamBeginCapture(stream, mode))

    def end(self, stream: int) -> int:
        drawn = _checked(self._driver.cuStreamEndCapture(stream))
        try:
            graph = _checked(self._driver.cuGraphInstantiate(drawn, 0))
        finally:
            _checked(self._driver.cuGraphDestroy(drawn))
        self._kept[int(graph)] = graph
        self._taken.add("graphs")
        return int(graph)

    def launch(self, graph: int, stream: int) -> None:
        _checked(self._driver.cuGraphLaunch(self._kept[graph], stream))

    def give_back(self, graph: int) -> None:
        _checked(self._driver.cuGraphExecDestroy(self._kept.pop(graph)))
        self._taken.add("graphs", -1)


def _checked(answer: Any) -> Any:
    code, *values = answer
    if int(code) != 0:
        raise EngineError(f"CUDA refuses with {code.name}: free device memory, or restart the daemon")
    return values[0] if values else None
