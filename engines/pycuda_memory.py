"""Device memory by pycuda. Its streams have no priorities (pycuda 2026.1), so urgent and normal works share the GPU
as they come; cuda-bindings has them."""

from typing import Any, Dict

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.engines.device_memory import Pinned


class PycudaMemory:
    """On GPU 0, in its primary context."""

    def __init__(self) -> None:
        import pycuda
        import pycuda.driver as driver

        self._driver, self._version = driver, str(pycuda.VERSION_TEXT)
        self.taken_bytes = 0
        self._kept: Dict[int, Any] = {}
        try:
            driver.init()
            self._device = driver.Device(0)
            self._context = self._device.retain_primary_context()
            self._context.push()
        except driver.Error as error:
            raise EngineError(f"pycuda: no usable NVIDIA GPU here ({str(error).splitlines()[0]})") from error
        self._streams: Dict[int, Any] = {}

    def take(self, nbytes: int) -> int:
        try:
            allocation = self._driver.mem_alloc(nbytes)
        except self._driver.Error as error:
            raise EngineError(f"CUDA refuses {nbytes} bytes ({error}): free device memory") from error
        self._kept[int(allocation)] = (allocation, nbytes)
        self.taken_bytes += nbytes
        return int(allocation)

    def give_back(self, address: int) -> None:
        allocation, nbytes = self._kept.pop(address)
        allocation.free()
        self.taken_bytes -= nbytes

    def take_pinned(self, nbytes: int) -> Pinned:
        try:
            array = self._driver.pagelocked_empty(nbytes, np.uint8)
        except self._driver.Error as error:
            raise EngineError(f"CUDA refuses {nbytes} bytes of pinned memory ({error}): free memory") from error
        self.taken_bytes += nbytes
        return Pinned(array, nbytes)

    def give_back_pinned(self, pinned: Pinned) -> None:
        pinned.array.base.free()
        self.taken_bytes -= pinned.key

    def stream(self, urgent: bool) -> int:
        stream = self._driver.Stream()
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def to_device(self, address: int, pinned: Pinned, nbytes: int, stream: int) -> None:
        self._driver.memcpy_htod_async(address, pinned.array[:nbytes], self._streams[stream])

    def to_host(self, pinned: Pinned, address: int, nbytes: int, stream: int) -> None:
        self._driver.memcpy_dtoh_async(pinned.array[:nbytes], address, self._streams[stream])

    def within_device(self, target: int, source: int, nbytes: int, stream: int) -> None:
        self._driver.memcpy_dtod_async(target, source, nbytes, self._streams[stream])

    def wait(self, stream: int) -> None:
        self._streams[stream].synchronize()

    def compute_capability(self) -> str:
        major, minor = self._device.compute_capability()
        return f"{major}.{minor}"

    def describe(self) -> str:
        return f"pycuda {self._version}, without stream priorities"
