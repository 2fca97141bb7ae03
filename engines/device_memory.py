"""What a back end needs of CUDA, behind one small interface: memory, streams, events, copies.

Two implementations: pycuda (Jetsons have it) and cuda-bindings (no compiler needed, stream priorities). Addresses,
streams and events are plain integers, as TensorRT takes them. Everything taken is counted, so that what is not given
back can be seen; ``close`` refuses nothing and gives back what is left.
"""

import importlib.util
from typing import Any, NamedTuple, Protocol

from pamdi.core.errors import EngineError


class Pinned(NamedTuple):
    """Page-locked host memory: ``array`` is its bytes as a numpy array of uint8, ``key`` frees it."""

    array: Any
    key: Any


class DeviceMemory(Protocol):
    """Owned by one thread. Sizes in bytes. Every method but ``close`` raises EngineError for what CUDA refuses."""

    taken_bytes: int
    """Device and pinned memory taken and not given back."""

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

    def to_device(self, address: int, pinned: Pinned, nbytes: int, stream: int) -> None:
        """Copy, in the stream's order."""

    def to_host(self, pinned: Pinned, address: int, nbytes: int, stream: int) -> None:
        """Copy, in the stream's order."""

    def within_device(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """Copy, in the stream's order, without the host."""

    def wait(self, stream: int) -> None:
        """Until all that was put into the stream is done."""

    def compute_capability(self) -> str:
        """Such as 8.7."""

    def describe(self) -> str:
        """Name, version, and whether it has stream priorities."""


def open_device_memory() -> DeviceMemory:
    """cuda-bindings where it is installed, else pycuda. Raises EngineError with what to install."""
    if importlib.util.find_spec("cuda") is not None and importlib.util.find_spec("cuda.bindings") is not None:
        from pamdi.engines.cuda_bindings_memory import CudaBindingsMemory

        return CudaBindingsMemory()
    if importlib.util.find_spec("pycuda") is not None:
        from pamdi.engines.pycuda_memory import PycudaMemory

        return PycudaMemory()
    raise EngineError("no access to the GPU's memory: pip install cuda-bindings, or pycuda")
