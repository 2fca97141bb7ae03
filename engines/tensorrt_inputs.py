"""Putting together what one run takes: works behind each other in a batch, wherever their tensors are.

An engine has two sets of input buffers. While it reads one, the next works' tensors may be on their way into the other
(``prepare``): so a set remembers which works are in it, and a run that begins with these very works copies only the
rest. Nothing is decided by that: if other works run, the set is filled anew.

What lies on the device already is read where it is, if it lies in one piece there; else it is copied on the device.
"""

from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np

from pamdi.engines.device_memory import DeviceMemory
from pamdi.engines.resident import Buffer, Slice, Source

ALIGN_BYTES = 256  # of an address that TensorRT is given, says its guide
Work = Mapping[str, "np.ndarray"]
Sources = Dict[str, Source]


class Inputs:
    """``copied``: the event after which all is in. ``works``: what is in it, or on its way, from the beginning of the
    batch. ``flying``: an engine may be reading it."""

    def __init__(self, buffers: Dict[str, Buffer], copied: int) -> None:
        self.buffers, self.copied = buffers, copied
        self.works: Tuple[Work, ...] = ()
        self.flying = False

    def holds(self, works: Sequence[Work]) -> int:
        """How many of ``works`` are in it, all that is in it being the first of them; else 0."""
        same = len(self.works) <= len(works) and all(mine is work for mine, work in zip(self.works, works))
        return len(self.works) if same else 0

    def fill(
        self, names: Sequence[str], sources: Sequence[Sources], have: int, memory: DeviceMemory, stream: int
    ) -> None:
        """Copy what ``names`` are in the works after the first ``have``. Works that were on their way and did not run
        may still be: one stream copies all that comes in, so what comes later is what stays."""
        for name in names:
            _fill(self.buffers[name], [source[name] for source in sources], have, memory, stream)
        memory.mark(self.copied, stream)


def inputs_for(sets: Sequence[Inputs], works: Sequence[Work]) -> "Tuple[Inputs, int]":
    """The set to use for ``works``, and how many of them are in it."""
    free = [inputs for inputs in sets if not inputs.flying]
    best = max(free, key=lambda inputs: (inputs.holds(works), not inputs.works))
    return best, best.holds(works)


def lying_together(parts: Sequence[Source]) -> int:
    """The address on the device where all parts lie behind each other; 0 where they do not."""
    first = parts[0]
    if not isinstance(first, Slice) or first.at % ALIGN_BYTES:
        return 0
    at = first.at
    for part in parts:
        if not isinstance(part, Slice) or part.buffer.address != first.buffer.address or part.at != at:
            return 0
        at += part.nbytes
    return first.address


def _fill(buffer: Buffer, parts: Sequence[Source], have: int, memory: DeviceMemory, stream: int) -> None:
    """One call for each run of parts that come from the host, one for each that comes from the device."""
    at = sum(part.nbytes for part in parts[:have])
    begun = at
    for part in parts[have:]:
        if isinstance(part, Slice):
            _send(buffer, begun, at, memory, stream)
            memory.across(buffer.address + at, part.address, part.nbytes, stream)
            begun = at + part.nbytes
        else:
            data = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
            buffer.pinned.array[at : at + data.size] = data
        at += part.nbytes
    _send(buffer, begun, at, memory, stream)


def _send(buffer: Buffer, begin: int, end: int, memory: DeviceMemory, stream: int) -> None:
    if end > begin:
        memory.to_device(buffer.address + begin, buffer.pinned, end - begin, stream, begin)


def places_of(sources: Sequence[Sources]) -> List[int]:
    """Which places are read, by identity."""
    return [id(part.place) for source in sources for part in source.values() if isinstance(part, Slice)]
