"""Outputs that stay on the device where they were made, until somebody reads them.

What a segment leaves on the GPU is most often read there, by the next segment. So a back end may answer with these
instead of arrays: size and types are known at once, and the bytes are copied to the host when somebody asks for them,
because the work is sent to another device, written to the journal or published, or because their place is needed. From
then on they are plain arrays. Whoever knows beforehand that they will be read says ``bring``: the copies begin, and
nobody waits until the bytes are asked for.

A place belongs to the answers that lie in it for as long as somebody holds one of them: it is lent, not given. When
all are gone, or on the host, it is free again; and when it is needed before, they are brought first. So the number of
places is the bound, and no answer is ever lost to it.

Read by any thread; everything else is done by the one that runs engines.
"""

import threading
import weakref
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Tuple, Union

import numpy as np

from pamdi.engines.device_memory import DeviceMemory, Pinned
from pamdi.engines.manifest import TensorInfo


class Buffer(NamedTuple):
    """One tensor's place on the device and its double on the host, both for the largest batch."""

    info: TensorInfo
    address: int
    pinned: Pinned


class Place:
    """Where one run leaves its outputs. ``computed``: the event after which they are there; ``copied``: the one after
    which those that were brought are on the host; ``used``: the larger, the later."""

    def __init__(self, buffers: Dict[str, Buffer], computed: int, copied: int) -> None:
        self.buffers, self.computed, self.copied = buffers, computed, copied
        self.used = 0
        self._lent: "List[weakref.ref[Resident]]" = []

    def lend(self, answer: "Resident") -> None:
        self._lent = [*(ref for ref in self._lent if ref() is not None), weakref.ref(answer)]

    def lent_to(self) -> "List[Resident]":
        """Answers that still have something here."""
        answers = [ref() for ref in self._lent]
        return [answer for answer in answers if answer is not None and not answer.on_host]

    def take_back(self) -> int:
        """The place may be used anew: whoever has something in it has it on the host from now on. How many that were.
        Raises EngineError."""
        answers = self.lent_to()
        for answer in answers:
            answer.host()
        self._lent = []
        return len(answers)


class Slice(NamedTuple):
    """One tensor of one answer on the device: ``count`` inputs of the batch in ``buffer``, from ``first`` on. Looks
    like an array to whoever checks types and shapes."""

    place: Place
    buffer: Buffer
    first: int
    size: int

    @property
    def dtype(self) -> "np.dtype[Any]":
        return np.dtype(self.buffer.info.dtype)

    @property
    def shape(self) -> Tuple[int, ...]:
        return tuple(size if isinstance(size, int) else self.size for size in self.buffer.info.shape)

    @property
    def ndim(self) -> int:
        return len(self.buffer.info.shape)

    @property
    def at(self) -> int:
        """Bytes from the buffer's beginning."""
        return self.first * self.buffer.info.item_bytes

    @property
    def address(self) -> int:
        return self.buffer.address + self.at

    @property
    def nbytes(self) -> int:
        return nbytes_of(self.buffer.info, self.size)


Source = Union["np.ndarray", Slice]


class Resident(Mapping[str, "np.ndarray"]):
    """An answer, by name: on the device, on the host, or some of it here and some there."""

    def __init__(self, memory: DeviceMemory, stream: int, where: Dict[str, Source]) -> None:
        """``stream`` brings it."""
        self._memory, self._stream, self._where = memory, stream, where
        self._lock = threading.Lock()
        self._coming = False
        self.nbytes = sum(source.nbytes for source in where.values())
        for source in where.values():
            if isinstance(source, Slice):
                source.place.lend(self)

    @property
    def on_host(self) -> bool:
        return not any(isinstance(source, Slice) for source in self._where.values())

    def where(self) -> Dict[str, Source]:
        """Where each tensor is, at this moment."""
        with self._lock:
            return dict(self._where)

    def bring(self) -> None:
        """Begin to copy it to the host. Raises EngineError."""
        with self._lock:
            self._bring()

    def host(self) -> "Dict[str, np.ndarray]":
        """The arrays; waits for the copies. Raises EngineError where the device no longer gives them."""
        with self._lock:
            if not self.on_host:
                self._bring()
                slices = self._slices()
                with self._memory.current():
                    for place in {id(part.place): part.place for part in slices.values()}.values():
                        self._memory.wait_for(place.copied)
                here = {name: _array(part) for name, part in slices.items()}
                self._where = {name: here.get(name, source) for name, source in self._where.items()}
            return self._where  # type: ignore[return-value]  # no slice is left

    def _slices(self) -> Dict[str, Slice]:
        return {name: source for name, source in self._where.items() if isinstance(source, Slice)}

    def _bring(self) -> None:
        if self._coming or self.on_host:
            return
        with self._memory.current():
            for part in self._slices().values():
                self._memory.to_host(part.buffer.pinned, part.address, part.nbytes, self._stream, part.at)
                self._memory.mark(part.place.copied, self._stream)
        self._coming = True

    def __getitem__(self, name: str) -> "np.ndarray":
        return self.host()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


def nbytes_of(info: TensorInfo, batch: int) -> int:
    return info.item_bytes * (batch if "batch" in info.shape else 1)


def _array(part: Slice) -> "np.ndarray":
    raw = part.buffer.pinned.array[part.at : part.at + part.nbytes]
    array: "np.ndarray" = raw.copy().view(part.dtype).reshape(part.shape)
    return array


def where_of(tensors: Mapping[str, "np.ndarray"]) -> Dict[str, Source]:
    """Where each tensor of a work is. Copies nothing."""
    return tensors.where() if isinstance(tensors, Resident) else dict(tensors)
