"""Device memory that is host memory, and streams that are as lazy as the rules allow.

Addresses are this process's, and everything taken is counted. What is put into a stream is done only when somebody
waits for it, and then no more than that wait is owed: what is ordered by no stream and no event is done too late, so
that a missing event shows as a wrong answer, every time. A call by a thread that has not made the context its own is
refused, as CUDA does it, and so is an allocation by the thread that is recording a graph.
"""

import contextlib
import ctypes
import itertools
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.engines.device_memory import Graphs, Pinned, Taken
from tests.tensorrt.fake import tensorrt as fake

_handles = itertools.count(1)
_turn = threading.RLock()  # streams are done by whoever waits, and several threads may


class Stream:
    """``waiting``: what is still to be done, in order. ``recording``: where it goes instead, while a graph is made."""

    def __init__(self, urgent: bool) -> None:
        self.urgent = urgent
        self.waiting: List[Callable[[], None]] = []
        self.recording: Optional[List[Callable[[], None]]] = None

    def put(self, call: Callable[[], None]) -> None:
        with _turn:
            (self.waiting if self.recording is None else self.recording).append(call)

    def do(self, count: Optional[int] = None) -> None:
        """The first ``count``, or all."""
        with _turn:
            for _ in range(len(self.waiting) if count is None else count):
                self.waiting.pop(0)()


class HostMemory:
    """``copies``: (direction, bytes), in the order in which they were asked for, so that a test can see what crosses to
    and from the "device". ``with_graphs``: False as pycuda; "fail": every recording does."""

    def __init__(self, with_graphs: Any = True) -> None:
        self.taken = Taken()
        self.copies: List[Tuple[str, int]] = []
        self.done: List[str] = []
        self._blocks: Dict[int, Any] = {}
        self._streams: Dict[int, Stream] = {}
        self._marks: Dict[int, Tuple[Stream, Callable[[], None]]] = {}
        self._thread = threading.local()
        self.graphs: Optional[Graphs] = HostGraphs(self, with_graphs == "fail") if with_graphs else None

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self._thread.depth = self._depth() + 1
        try:
            yield
        finally:
            self._thread.depth -= 1

    def _depth(self) -> int:
        return int(getattr(self._thread, "depth", 0))

    def check(self) -> None:
        if not self._depth():
            raise EngineError("CUDA refuses with CUDA_ERROR_INVALID_CONTEXT")

    def take(self, nbytes: int) -> int:
        self.check()
        if any(stream.recording is not None for stream in self._streams.values()):
            raise EngineError("CUDA refuses with CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
        block = np.zeros(nbytes, np.uint8)
        self._blocks[block.ctypes.data] = block
        self.taken.add("bytes", nbytes)
        return int(block.ctypes.data)

    def give_back(self, address: int) -> None:
        self.check()
        self.taken.add("bytes", -self._blocks.pop(address).nbytes)

    def take_pinned(self, nbytes: int) -> Pinned:
        address = self.take(nbytes)
        return Pinned(self._blocks[address], address)

    def give_back_pinned(self, pinned: Pinned) -> None:
        self.give_back(pinned.key)

    def stream(self, urgent: bool) -> int:
        self.check()
        handle, stream = next(_handles), Stream(urgent)
        self._streams[handle] = stream
        fake.STREAMS[handle] = Compute(self, handle)
        self.taken.add("streams")
        return handle

    def give_back_stream(self, stream: int) -> None:
        self.check()
        del self._streams[stream], fake.STREAMS[stream]
        self.taken.add("streams", -1)

    def event(self) -> int:
        self.check()
        self.taken.add("events")
        return next(_handles)

    def give_back_event(self, event: int) -> None:
        self.check()
        self._marks.pop(event, None)
        self.taken.add("events", -1)

    def mark(self, event: int, stream: int) -> None:
        self.check()
        marked = self._streams[stream]

        def nothing() -> None:
            """Only a place in the stream."""

        self._marks[event] = (marked, nothing)
        marked.put(nothing)

    def hold(self, stream: int, event: int) -> None:
        self.check()
        mark = self._marks.get(event)
        self._streams[stream].put(lambda: self._until(mark))

    def wait_for(self, event: int) -> None:
        self.check()
        self._until(self._marks.get(event))

    def _until(self, mark: Optional[Tuple[Stream, Callable[[], None]]]) -> None:
        with _turn:
            if mark is not None and mark[1] in mark[0].waiting:
                mark[0].do(mark[0].waiting.index(mark[1]) + 1)

    def put(self, stream: int, what: str, call: Callable[[], None]) -> None:
        self.check()

        def do() -> None:
            self.done.append(what)
            call()

        self._streams[stream].put(do)

    def to_device(self, address: int, pinned: Pinned, nbytes: int, stream: int, at: int = 0) -> None:
        self.copies.append(("in", nbytes))
        self.put(stream, "in", lambda: self._copy(address, pinned.key + at, nbytes))

    def to_host(self, pinned: Pinned, address: int, nbytes: int, stream: int, at: int = 0) -> None:
        self.copies.append(("out", nbytes))
        self.put(stream, "out", lambda: self._copy(pinned.key + at, address, nbytes))

    def across(self, to: int, address: int, nbytes: int, stream: int) -> None:
        self.copies.append(("across", nbytes))
        self.put(stream, "across", lambda: self._copy(to, address, nbytes))

    def _copy(self, to: int, address: int, nbytes: int) -> None:
        """Within blocks that are taken, or it is not done at all."""
        for begin in (to, address):
            blocks = self._blocks.items()
            assert any(at <= begin and begin + nbytes <= at + block.nbytes for at, block in blocks), "a wild copy"
        ctypes.memmove(to, address, nbytes)

    def wait(self, stream: int) -> None:
        self.check()
        self._streams[stream].do()

    def named(self, stream: int) -> Stream:
        self.check()
        return self._streams[stream]

    def compute_capability(self) -> str:
        return "8.7"

    def describe(self) -> str:
        return "host memory"


class Compute:
    """A stream as the fake TensorRT knows it."""

    def __init__(self, memory: HostMemory, handle: int) -> None:
        self._memory, self._handle = memory, handle

    @property
    def recording(self) -> bool:
        return self._memory.named(self._handle).recording is not None

    def put(self, call: Callable[[], None]) -> None:
        self._memory.put(self._handle, "compute", call)


class HostGraphs:
    def __init__(self, memory: HostMemory, fails: bool) -> None:
        self._memory, self._fails = memory, fails
        self._graphs: Dict[int, List[Callable[[], None]]] = {}

    def begin(self, stream: int) -> None:
        self._memory.named(stream).recording = []

    def end(self, stream: int) -> int:
        recorded = self._memory.named(stream).recording
        self._memory.named(stream).recording = None
        if self._fails or not recorded:
            raise EngineError("CUDA refuses with CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
        graph = next(_handles)
        self._graphs[graph] = recorded
        self._memory.taken.add("graphs")
        return graph

    def launch(self, graph: int, stream: int) -> None:
        for call in self._graphs[graph]:
            self._memory.named(stream).put(call)

    def give_back(self, graph: int) -> None:
        self._memory.check()
        del self._graphs[graph]
        self._memory.taken.add("graphs", -1)
