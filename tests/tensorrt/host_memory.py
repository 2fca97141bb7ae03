"""Device memory that is host memory: addresses are this process's, and everything taken is counted."""

from typing import Any, Dict, List, Tuple

import numpy as np

from pamdi.engines.device_memory import Pinned


class HostMemory:
    """``copies``: (direction, bytes), in order, so that a test can see what crossed to and from the "device"."""

    def __init__(self) -> None:
        self.taken_bytes = 0
        self.copies: List[Tuple[str, int]] = []
        self._blocks: Dict[int, Any] = {}

    def take(self, nbytes: int) -> int:
        block = np.zeros(nbytes, np.uint8)
        self._blocks[block.ctypes.data] = block
        self.taken_bytes += nbytes
        return int(block.ctypes.data)

    def give_back(self, address: int) -> None:
        self.taken_bytes -= self._blocks.pop(address).nbytes

    def take_pinned(self, nbytes: int) -> Pinned:
        address = self.take(nbytes)
        return Pinned(self._blocks[address], address)

    def give_back_pinned(self, pinned: Pinned) -> None:
        self.give_back(pinned.key)

    def stream(self, urgent: bool) -> int:
        return 2 if urgent else 1

    def to_device(self, address: int, pinned: Pinned, nbytes: int, stream: int) -> None:
        self.copies.append(("in", nbytes))
        self._blocks[address][:nbytes] = pinned.array[:nbytes]

    def to_host(self, pinned: Pinned, address: int, nbytes: int, stream: int) -> None:
        self.copies.append(("out", nbytes))
        pinned.array[:nbytes] = self._blocks[address][:nbytes]

    def within_device(self, target: int, source: int, nbytes: int, stream: int) -> None:
        self._blocks[target][:nbytes] = self._blocks[source][:nbytes]

    def wait(self, stream: int) -> None:
        """All is done at once."""

    def compute_capability(self) -> str:
        return "8.7"

    def describe(self) -> str:
        return "host memory"
