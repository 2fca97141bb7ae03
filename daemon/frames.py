"""How messages become bytes on a link, so that an urgent kilobyte never waits behind a normal megabyte.

A message is a header (msgpack) and a body (raw tensors). It is sent in frames of at most 16 KiB, and at every frame
the most urgent message goes first: small messages before all tensors, tensors by urgency, then first come first
served. Frames of several messages interleave on one connection; a stream number keeps them apart.

    frame   = length u32 | flags u8 | stream u32 | bytes
    first   = frame whose bytes begin with: header length u32 | body length u64 | seconds waited f64
    ping    = frame without bytes, whose stream number the pong repeats

Sizes are claims until checked: nothing is allocated before the claim is found to be within bounds.
"""

import heapq
import struct
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from pamdi.core.errors import BadInput

FRAME_BYTES = 16 * 1024
FRAME = struct.Struct("<IBI")
OPENING = struct.Struct("<IQd")
FIRST, LAST, PING, PONG = 1, 2, 4, 8
HEADER_BYTES_MAX = 1 << 20
STREAMS_MAX = 1024
MESSAGES_MAX = 1 << 16  # that wait in one link: a queue of small messages is bounded too, whatever each costs to keep
RECEIVE_BYTES = 256 * 1024
ALIGN_BYTES = 16  # where a body begins in memory, so that its arrays do


class Outgoing:
    """A message on its way out. ``parts`` are its bytes, header first; ``queued_at`` in the caller's clock."""

    __slots__ = ("at", "header_bytes", "part", "parts", "queued_at", "started", "stream", "total")

    def __init__(self, stream: int, parts: List[memoryview], queued_at: float) -> None:
        self.stream = stream
        self.header_bytes = len(parts[0])
        self.parts = [part for part in parts if len(part)]
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
            taken.append(piece)
            if self.at == len(part):
                self.part, self.at = self.part + 1, 0
        return taken, self.part == len(self.parts)


class FrameWriter:
    """The queue of one link. ``bytes_max`` and ``messages_max`` bound what waits; the core bounds it long before."""

    def __init__(self, bytes_max: int, messages_max: int = MESSAGES_MAX) -> None:
        self._heap: List[Tuple[float, int, Outgoing]] = []
        self._put = 0
        self._bytes_max, self._messages_max = bytes_max, messages_max
        self.bytes_waiting = 0

    def __bool__(self) -> bool:
        return bool(self._heap)

    def put(self, parts: List[memoryview], urgency: float, now: float) -> bool:
        """Queue a message. False, and nothing queued, when it would exceed a bound."""
        total = sum(map(len, parts))
        if self.bytes_waiting + total > self._bytes_max or len(self._heap) >= self._messages_max:
            return False
        self._put += 1
        self.bytes_waiting += total
        heapq.heappush(self._heap, (-urgency, self._put, Outgoing(self._put & 0xFFFFFFFF, parts, now)))
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
    """One message half here: ``data`` is a pad, then header and body, so that the body begins aligned."""

    __slots__ = ("body_at", "data", "filled", "first_at", "pad", "total", "waited_s")

    def __init__(self, header_bytes: int, total: int, waited_s: float, first_at: float) -> None:
        self.pad = self.filled = -header_bytes % ALIGN_BYTES
        self.body_at = self.pad + header_bytes
        self.total = total
        self.data = np.empty(self.pad + total, np.uint8).data  # unlike bytearray, untouched until bytes come
        self.waited_s = waited_s
        self.first_at = first_at

    def whole(self) -> Incoming:
        header = bytes(self.data[self.pad : self.body_at])
        return Incoming(header, self.data[self.body_at :], self.waited_s, self.first_at)


class FrameReader:
    """Puts frames together again. BadInput means: close this link.

    ``message_bytes_max`` bounds one message, ``claimed_bytes_max`` all that are half here: as much as the writer's
    queue at the other end may hold, so that an honest peer never reaches it. Whoever receives writes into ``space()``
    and says ``received()``; what lies there is then copied once, to its place in its message.
    """

    def __init__(self, message_bytes_max: int, claimed_bytes_max: Optional[int] = None) -> None:
        self._message_bytes_max = message_bytes_max
        self._claimed_bytes_max = 4 * message_bytes_max if claimed_bytes_max is None else claimed_bytes_max
        self._streams: Dict[int, _Stream] = {}
        self._claimed = 0
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._end = 0
        self.pings: List[Tuple[int, int]] = []  # (flags, number) of the pings and pongs that came

    def space(self) -> memoryview:
        """Where the next bytes go. Never empty: what stays behind is less than a frame."""
        return self._buffer[self._end :]

    def feed(self, data: memoryview, now: float) -> List[Incoming]:
        """Like ``received``, for bytes that lie elsewhere."""
        whole: List[Incoming] = []
        while len(data):
            space = self.space()
            count = min(len(space), len(data))
            space[:count] = data[:count]
            whole += self.received(count, now)
            data = data[count:]
        return whole

    def received(self, count: int, now: float) -> List[Incoming]:
        """The messages that ``count`` more bytes complete. Raises BadInput for what is not a frame of ours."""
        whole: List[Incoming] = []
        at, end = 0, self._end + count
        while end - at >= FRAME.size:
            size, flags, stream = FRAME.unpack_from(self._buffer, at)
            if size > FRAME_BYTES:
                raise BadInput(f"a frame claims {size} bytes; the limit is {FRAME_BYTES}")
            begin = at + FRAME.size
            if end - begin < size:
                break
            at = begin + size
            message = self._frame(flags, stream, self._buffer[begin:at], now)
            if message is not None:
                whole.append(message)
        self._buffer[: end - at] = self._buffer[at:end]
        self._end = end - at
        return whole

    def _frame(self, flags: int, number: int, data: memoryview, now: float) -> Optional[Incoming]:
        if flags & (PING | PONG):
            self._ping(flags, number, len(data))
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
            raise BadInput(f"stream {number} ended after {stream.filled - stream.pad} of {stream.total} bytes")
        del self._streams[number]
        self._claimed -= stream.total
        return stream.whole()

    def _ping(self, flags: int, number: int, size: int) -> None:
        if size:
            raise BadInput(f"a ping with {size} bytes")
        self.pings.append((flags, number))

    def _open(self, number: int, data: memoryview, now: float) -> memoryview:
        if len(data) < OPENING.size or number in self._streams or len(self._streams) >= STREAMS_MAX:
            raise BadInput(f"stream {number} cannot be opened")
        header_bytes, body_bytes, waited_s = OPENING.unpack_from(data)
        total = header_bytes + body_bytes
        if header_bytes > HEADER_BYTES_MAX or total > self._message_bytes_max:
            raise BadInput(f"a message claims {total} bytes; the limit is {self._message_bytes_max}")
        if self._claimed + total > self._claimed_bytes_max:
            claimed = self._claimed + total
            raise BadInput(f"unfinished messages claim {claimed} bytes; the limit is {self._claimed_bytes_max}")
        if not 0 <= waited_s < 1e9:
            raise BadInput(f"a message claims to have waited {waited_s} s")
        self._claimed += total
        self._streams[number] = _Stream(header_bytes, total, waited_s, now)
        return data[OPENING.size :]
