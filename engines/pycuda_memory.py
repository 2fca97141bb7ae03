"""Device memory by pycuda.

It (2026.1, read in its source) creates streams with cuStreamCreate, which knows no priorities, and wraps nothing of
stream capture: here urgent and normal works share the GPU as they come, and there are no graphs. Streams made
elsewhere, by ctypes say, would not help: its copies and events take only its own Stream objects. cuda-bindings has both
and is preferred where it is installed; it has no wheels for Python 3.8, which is JetPack 5's: that is what pycuda is
for.

A pycuda object remembers the context that was current when it was made, and is freed in any thread in which that one is
current: ``current`` pushes and pops it, which pycuda allows in every thread.
"""

import contextlib
from typing import Any, Dict, Iterator, Optional

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.engines.device_memory import Graphs, Pinned, Taken


class PycudaMemory:
    """On GPU 0, in its primary context."""

    graphs: Optional[Graphs] = None

    def __init__(self) -> None:
        import pycuda
        import pycuda.driver as driver

        self._driver, self._version = driver, str(pycuda.VERSION_TEXT)
        self.taken = Taken()
        self._kept: Dict[int, Any] = {}
        self._streams: Dict[int, Any] = {}
        self._events: Dict[int, Any] = {}
        try:
            driver.init()
            self._device = driver.Device(0)
            self._context = self._device.retain_primary_context()
        except driver.Error as error:
            raise EngineError(f"pycuda: no usable NVIDIA GPU here ({str(error).splitlines()[0]})") from error

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        except self._driver.Error as error:
            line = str(error).splitlines()[0]
            raise EngineError(f"CUDA refuses ({line}): free device memory, or restart the daemon") from error
        finally:
            self._driver.Context.pop()

    def take(self, nbytes: int) -> int:
        allocation = self._driver.mem_alloc(nbytes)
        self._kept[int(allocation)] = (allocation, nbytes)
        self.taken.add("bytes", nbytes)
        return int(allocation)

    def give_back(self, address: int) -> None:
        allocation, nbytes = self._kept.pop(address)
        allocation.free()
        self.taken.add("bytes", -nbytes)

    def take_pinned(self, nbytes: int) -> Pinned:
        array = self._driver.pagelocked_empty(nbytes, np.uint8)
        self.taken.add("bytes", nbytes)
        return Pinned(array, nbytes)

    def give_back_pinned(self, pinned: Pinned) -> None:
        pinned.array.base.free()
        self.taken.add("bytes", -pinned.key)

    def stream(self, urgent: bool) -> int:
        stream = self._driver.Stream()
        self._streams[int(stream.handle)] = stream
        self.taken.add("streams")
        return int(stream.handle)

    def give_back_stream(self, stream: int) -> None:
        del self._streams[stream]  # the last reference: pycuda destroys it
        self.taken.add("streams", -1)

    def event(self) -> int:
        event = self._driver.Event(self._driver.event_flags.DISABLE_TIMING)
        self._events[id(event)] = event
        self.taken.add("events")
        return id(event)

    def give_back_event(self, event: int) -> None:
        del self._events[event]
        self.taken.add("events", -1)

    def mark(self, event: int, stream: int) -> None:
        self._events[event].record(self._streams[stream])

    def hold(self, stream: int, event: int) -> None:
        self._streams[stream].wait_for_event(self._events[event])

    def wait_for(self, event: int) -> None:
        self._events[event].synchronize()

    def to_device(self, address: int, pinned: Pinned, nbytes: int, stream: int, at: int = 0) -> None:
        self._driver.memcpy_htod_async(address, pinned.array[at : at + nbytes], self._streams[stream])

    def to_host(self, pinned: Pinned, address: int, nbytes: int, stream: int, at: int = 0) -> None:
        self._driver.memcpy_dtoh_async(pinned.array[at : at + nbytes], address, self._streams[stream])

    def across(self, to: int, address: int, nbytes: int, stream: int) -> None:
        self._driver.memcpy_dtod_async(to, address, nbytes, self._streams[stream])

    def wait(self, stream: int) -> None:
        self._streams[stream].synchronize()

    def compute_capability(self) -> str:
        major, minor = self._device.compute_capability()
        return f"{major}.{minor}"

    def describe(self) -> str:
        return f"pycuda {self._version}, without stream priorities and graphs"
