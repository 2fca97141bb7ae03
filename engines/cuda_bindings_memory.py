"""Device memory by NVIDIA's cuda-bindings: the driver's own calls, with stream priorities."""

import ctypes
from typing import Any, Dict

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.engines.device_memory import Pinned

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING


class CudaBindingsMemory:
    """On GPU 0, in its primary context."""

    def __init__(self) -> None:
        import cuda.bindings
        from cuda.bindings import driver

        self._driver, self._version = driver, str(getattr(cuda.bindings, "__version__", "unknown"))
        self.taken_bytes = 0
        self._sizes: Dict[int, int] = {}
        try:
            self._call(driver.cuInit(0))
            self._device = self._call(driver.cuDeviceGet(0))
            self._call(driver.cuCtxSetCurrent(self._call(driver.cuDevicePrimaryCtxRetain(self._device))))
        except RuntimeError as error:  # no driver on this machine
            raise EngineError(f"cuda-bindings: no NVIDIA driver here ({str(error).splitlines()[0]})") from error

    def _call(self, answer: Any) -> Any:
        code, *values = answer
        if int(code) != 0:
            raise EngineError(f"CUDA refuses with {code.name}: free device memory, or restart the daemon")
        return values[0] if values else None

    def take(self, nbytes: int) -> int:
        address = int(self._call(self._driver.cuMemAlloc(nbytes)))
        self._note(address, nbytes)
        return address

    def give_back(self, address: int) -> None:
        self._call(self._driver.cuMemFree(address))
        self.taken_bytes -= self._sizes.pop(address)

    def take_pinned(self, nbytes: int) -> Pinned:
        address = int(self._call(self._driver.cuMemHostAlloc(nbytes, 0)))
        self._note(address, nbytes)
        buffer = (ctypes.c_uint8 * nbytes).from_address(address)
        return Pinned(np.ctypeslib.as_array(buffer), address)

    def give_back_pinned(self, pinned: Pinned) -> None:
        self._call(self._driver.cuMemFreeHost(pinned.key))
        self.taken_bytes -= self._sizes.pop(pinned.key)

    def _note(self, address: int, nbytes: int) -> None:
        self._sizes[address] = nbytes
        self.taken_bytes += nbytes

    def stream(self, urgent: bool) -> int:
        least, greatest = self._driver.cuCtxGetStreamPriorityRange()[1:]
        return int(self._call(self._driver.cuStreamCreateWithPriority(NON_BLOCKING, greatest if urgent else least)))

    def to_device(self, address: int, pinned: Pinned, nbytes: int, stream: int) -> None:
        self._call(self._driver.cuMemcpyHtoDAsync(address, pinned.key, nbytes, stream))

    def to_host(self, pinned: Pinned, address: int, nbytes: int, stream: int) -> None:
        self._call(self._driver.cuMemcpyDtoHAsync(pinned.key, address, nbytes, stream))

    def within_device(self, target: int, source: int, nbytes: int, stream: int) -> None:
        self._call(self._driver.cuMemcpyDtoDAsync(target, source, nbytes, stream))

    def wait(self, stream: int) -> None:
        self._call(self._driver.cuStreamSynchronize(stream))

    def compute_capability(self) -> str:
        kinds = self._driver.CUdevice_attribute
        ask = (kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
        major, minor = (int(self._call(self._driver.cuDeviceGetAttribute(kind, self._device))) for kind in ask)
        return f"{major}.{minor}"

    def describe(self) -> str:
        return f"cuda-bindings {self._version}, with stream priorities"
