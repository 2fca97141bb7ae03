"""What a back end needs of CUDA, behind one small interface: a context, memory, streams, events, copies, graphs.

Two implementations: pycuda (Jetsons have it) and cuda-bindings (no compiler needed; stream priorities and graphs).
Addresses, streams, events and graphs are plain integers, as TensorRT takes them. Everything taken is counted, so that
what is not given back can be seen.

The context is the GPU's primary one, which TensorRT uses too. A thread has it only while it is inside ``current()``:
the driver refuses nearly every call of a thread without a context, and a daemon has two threads that call, one that
runs engines and one that loads them.
"""

import importlib.util
import threading
from collections import Counter
from typing import Any, ContextManager, NamedTuple, Optional, Protocol

from pamdi.core.errors import EngineError


class Pinned(NamedTuple):
    """Page-locked host memory: ``array`` is its bytes as a numpy array of uint8, ``key`` frees it."""

    array: Any
    key: Any


class Taken:
    """What is taken and not given back: ``bytes`` (device and pinned memory), ``streams``, ``events``, ``graphs``.
    Two threads count at once."""

    def __init__(self) -> None:
        self._counts: "Counter[str]" = Counter()
        self._lock = threading.Lock()

    def add(self, what: str, count: int = 1) -> None:
        with self._lock:
            self._counts[what] += count

    def all(self) -> "dict[str, int]":
        """Only what is not zero."""
        with self._lock:
            return {what: count for what, count in self._counts.items() if count}


class Graphs(Protocol):
    """CUDA graphs: what was put into a stream once, put there again in one call."""

    def begin(self, stream: int) -> None:
        """From now on what this thread puts into the stream is recorded, not done."""

    def end(self, stream: int) -> int:
        """Stop recording: the graph, ready to launch. Raises EngineError when what was put there cannot be recorded;
        the stream is then as it was before ``begin``."""

    def launch(self, graph: int, stream: int) -> None:
        """Put the whole graph into the stream."""

    def give_back(self, graph: int) -> None:
        """Free it."""


class DeviceMemory(Protocol):
    """Sizes in bytes. Every method raises EngineError for what CUDA refuses, and wants the context to be current."""

    taken: Taken
    graphs: Optional[Graphs]
    """None where the implementation has none."""

    def current(self) -> ContextManager[None]:
        """The context is this thread's, inside. May be nested."""

    def take(self, nbytes: int) -> int:
        """The address of ``nbytes`` of device memory."""

    def give_back(self, address: int) -> None:
        """Free what ``take`` gave."""

    def take_pinned(self, nbytes: int) -> Pinned:
        """Page-locked host memory."""

    def give_back_pinned(self, pinned: Pinned) -> None:
        """Free what ``take_pinned`` gave."""

    def stream(self, urgent: bool) -> int:
        """A stream's handle; an urgent one goes first on the GPU where the implementation can say so."""

    def give_back_stream(self, stream: int) -> None:
        """Free what ``stream`` gave."""

    def event(self) -> int:
        """A mark that can be put into streams."""

    def give_back_event(self, event: int) -> None:
        """Free what ``event`` gave."""

    def mark(self, event: int, stream: int) -> None:
        """The event happens when all that was put into the stream before is done."""

    def hold(self, stream: int, event: int) -> None:
        """What is put into the stream from now on waits for the event; the host does not."""

    def wait_for(self, event: int) -> None:
        """The host waits for the event."""

    def to_device(self, address: int, pinned: Pinned, nbytes: int, stream: int, at: int = 0) -> None:
        """Copy to ``address``, in the stream's order, what is in ``pinned`` from byte ``at`` on."""

    def to_host(self, pinned: Pinned, address: int, nbytes: int, stream: int, at: int = 0) -> None:
        """Copy from ``address``, in the stream's order, into ``pinned`` from byte ``at`` on."""

    def across(self, to: int, address: int, nbytes: int, stream: int) -> None:
        """Copy from ``address`` to another on the device, in the stream's order."""

    def wait(self, stream: int) -> None:
        """Until all that was put into the stream is done."""

    def compute_capability(self) -> str:
        """Such as 8.7."""

    def describe(self) -> str:
        """Name, version, and whether it has stream priorities and graphs."""


def open_device_memory() -> DeviceMemory:
    """cuda-bindings where it is installed, else pycuda. Raises EngineError with what to install."""
    if importlib.util.find_spec("cuda") is not None and importlib.util.find_spec("cuda.bindings") is not None:
        from pamdi.engines.cuda_bindings_memory import CudaBindingsMemory

        return CudaBindingsMemory()
    if importlib.util.find_spec("pycuda") is not None:
        from pamdi.engines.pycuda_memory import PycudaMemory

        return PycudaMemory()
    raise EngineError("no access to the GPU's memory: pip install cuda-bindings, or pycuda")
