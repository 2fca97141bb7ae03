"""How messages become bytes on a link, so that an urgent kilobyte never waits behind a normal megabyte.

A message is a header (msgpack) and a body (raw tensors). It is sent in frames of at most 16 KiB, and at every frame
the most urgent message goes first: small messages before all tensors, tensors by urgency, then first come first
served. Frames of several messages interleave on one connection; a stream number keeps them apart.

    frame   = length u32 | flags u8 | stream u32 | bytes
    first   = frame whose bytes begin with: header length u32 | body length u64 | seconds waited f64

Sizes are claims until checked: nothing is allocated before the claim is found to be within bounds.
"""

import heapq
import struct
from typing import Dict, List, NamedTuple, Optional, Tuple

from pamdi.core.errors import BadInput

FRAME_BYTES = 16 * 1024
FRAME = struct.Struct("<IBI")
OPENING = struct.Struct("<IQd")
FIRST, LAST, PING, PONG = 1, 2, 4, 8
HEADER_BYTES_MAX = 1 << 20
STREAMS_MAX = 1024


class Outgoing:
    """A message on its way out. ``parts`` are its bytes, header first; ``queued_at`` in the caller's clock."""

    __slots__ = ("at", "header_bytes", "part", "parts", "queued_at", "started", "stream", "total")

    def __init__(self, stream: int, parts: List[memoryview], queued_at: float) -> None:
        self.stream = stream
        self.parts = parts
        self.header_bytes = len(parts[0])
        self.total = sum(map(len, parts))
        self.queued_at = queued_at
        self.part = self.at = 0
        self.started = False

    def take(self, count: int) -> Tuple[List[memoryview], bool]:
        """The next ``count`` bytes, without copying, and whether they were the last."""
        taken: List[memoryview] = []
        while count and self.part < len(self.parts):
            part = self.parts[self.part]
            piece = part[self.at : self.at + count]
            count -= len(piece)
            self.at += len(piece)
            if piece:
                taken.append(piece)
            if self.at == len(part):
                self.part, self.at = self.part + 1, 0
        return taken, self.part == len(self.parts)


class FrameWriter:
    """The queue of one link. ``bytes_max`` bounds what waits; the core bounds it long before."""

    def __init__(self, bytes_max: int) -> None:
        self._heap: List[Tuple[float, int, Outgoing]] = []
        self._streams = 0
        self._bytes_max = bytes_max
        self.bytes_waiting = 0

    def __bool__(self) -> bool:
        return bool(self._heap)

    def put(self, parts: List[memoryview], urgency: float, now: float) -> bool:
        """Queue a message. False, and nothing queued, when it would exceed the bound."""
        total = sum(map(len, parts))
        if self.bytes_waiting + total > self._bytes_max:
            return False
        self._streams = (self._streams + 1) & 0xFFFFFFFF
        self.bytes_waiting += total
        heapq.heappush(self._heap, (-urgency, self._streams, Outgoing(self._streams, parts, now)))
        return True

    def next_frame(self, now: float) -> List[memoryview]:
        """The pieces of the next frame: of the most urgent message that waits now."""
        message = self._heap[0][2]
        opening = b""
        flags = 0
        if not message.started:
            message.started = True
            flags = FIRST
            body = message.total - message.header_bytes
            opening = OPENING.pack(message.header_bytes, body, max(0.0, now - message.queued_at))
        pieces, last = message.take(FRAME_BYTES - len(opening))
        size = len(opening) + sum(map(len, pieces))
        self.bytes_waiting -= size - len(opening)
        if last:
            flags |= LAST
            heapq.heappop(self._heap)
        return [memoryview(FRAME.pack(size, flags, message.stream) + opening), *pieces]


class Incoming(NamedTuple):
    """A whole message: its header's bytes, its body, how long it waited at the sender, when its first frame came."""

    header: bytes
    body: memoryview
    waited_s: float
    first_at: float


class _Stream:
    __slots__ = ("data", "filled", "first_at", "header_bytes", "waited_s")

    def __init__(self, header_bytes: int, total: int, waited_s: float, first_at: float) -> None:
        self.header_bytes = header_bytes
        self.data = bytearray(total)
        self.filled = 0
        self.waited_s = waited_s
        self.first_at = first_at


class FrameReader:
    """Puts frames together again. ``message_bytes_max`` bounds one message; BadInput means: close this link."""

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._streams: Dict[int, _Stream] = {}
        self._claimed = 0
        self._rest = bytearray()
        self.pings: List[int] = []

    def feed(self, data: memoryview, now: float) -> List[Incoming]:
        """The messages that ``data`` completes. Raises BadInput for what is not a frame of ours."""
        whole: List[Incoming] = []
        if self._rest:
            self._rest += data
            data = memoryview(bytes(self._rest))
            self._rest.clear()
        at = 0
        while len(data) - at >= FRAME.size:
            size, flags, stream = FRAME.unpack_from(data, at)
            if size > FRAME_BYTES:
                raise BadInput(f"a frame claims {size} bytes; the limit is {FRAME_BYTES}")
            if len(data) - at - FRAME.size < size:
                break
            at += FRAME.size
            message = self._frame(flags, stream, data[at : at + size], now)
            at += size
            if message is not None:
                whole.append(message)
        self._rest += data[at:]
        return whole

    def _frame(self, flags: int, number: int, data: memoryview, now: float) -> Optional[Incoming]:
        if flags & (PING | PONG):
            self.pings.append(flags)
            return None
        if flags & FIRST:
            data = self._open(number, data, now)
        stream = self._streams.get(number)
        if stream is None or stream.filled + len(data) > len(stream.data):
            raise BadInput(f"a frame for stream {number} that is not open or is already full")
        stream.data[stream.filled : stream.filled + len(data)] = data
        stream.filled += len(data)
        if not flags & LAST:
            return None
        if stream.filled != len(stream.data):
            raise BadInput(f"stream {number} ended after {stream.filled} of {len(stream.data)} bytes")
        del self._streams[number]
        self._claimed -= len(stream.data)
        view = memoryview(stream.data)
        header = bytes(view[: stream.header_bytes])
        return Incoming(header, view[stream.header_bytes :], stream.waited_s, stream.first_at)

    def _open(self, number: int, data: memoryview, now: float) -> memoryview:
        if len(data) < OPENING.size or number in self._streams or len(self._streams) >= STREAMS_MAX:
            raise BadInput(f"stream {number} cannot be opened")
        header_bytes, body_bytes, waited_s = OPENING.unpack_from(data)
        total = header_bytes + body_bytes
        if header_bytes > HEADER_BYTES_MAX or total > self._message_bytes_max:
            raise BadInput(f"a message claims {total} bytes; the limit is {self._message_bytes_max}")
        if self._claimed + total > 4 * self._message_bytes_max or not 0 <= waited_s < 1e9:
            raise BadInput("too much is claimed at once")
        self._claimed += total
        self._streams[number] = _Stream(header_bytes, total, waited_s, now)
        return data[OPENING.size :]
