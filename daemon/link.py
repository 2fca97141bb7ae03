"""One direct connection to a neighbour: greeting, frames, keep-alive, and (as emulation) the pace of a slower link.

A connection belongs to one life of each side: the greeting carries both ends' instance numbers, and what an earlier
life sent cannot arrive on it. The kernel may hold only little that is unsent (TCP_NOTSENT_LOWAT), or its buffer would
be the queue and urgency would end there.
"""

import asyncio
import json
import socket
import struct
from typing import Any, Callable, List, NamedTuple, Optional

import msgspec

from pamdi.core import messages as ms
from pamdi.core.errors import BadInput
from pamdi.daemon.arrays import Payload, buffers, payload_from, specs
from pamdi.daemon.frames import FRAME, PING, PONG, FrameReader, FrameWriter

PROTOCOL = 1
GREETING_BYTES_MAX = 4096
LOWAT_BYTES = 16 * 1024
TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)


class LinkOptions(NamedTuple):
    """Bounds in bytes and seconds. ``rate_bytes_per_s`` and ``delay_s`` emulate a slower link; None and 0 do not."""

    message_bytes_max: int = 64 * 2**20
    queue_bytes_max: int = 256 * 2**20
    ping_every_s: float = 0.5
    silent_s_max: float = 2.0
    greeting_s_max: float = 5.0
    rate_bytes_per_s: Optional[float] = None
    delay_s: float = 0.0


class Greeting(NamedTuple):
    device: str
    instance: int


class Listener:
    """What a link tells its owner. ``up`` returns whether the link may stay."""

    def up(self, link: "Link") -> bool:
        raise NotImplementedError

    def down(self, link: "Link", why: str) -> None:
        raise NotImplementedError

    def message(
        self, link: "Link", message: ms.AnyMessage, payload: Optional[Payload], nbytes: int, transit_s: float
    ) -> None:
        raise NotImplementedError


class Link(asyncio.BufferedProtocol):
    """The protocol of one connection. ``peer`` is known after the greeting."""

    def __init__(self, me: Greeting, owner: Listener, options: LinkOptions, clock: Callable[[], float]) -> None:
        self.peer: Optional[Greeting] = None
        self.unknown_messages = 0
        self.overflows = 0
        self.bytes_out = 0
        self.rtt_s = 0.0
        self.closed = asyncio.get_running_loop().create_future()
        self._me, self._owner, self._options, self._clock = me, owner, options, clock
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._writer = FrameWriter(options.queue_bytes_max)
        self._reader = FrameReader(options.message_bytes_max + 2**20)
        self._buffer = bytearray(256 * 1024)
        self._view = memoryview(self._buffer)
        self._greeting = bytearray()
        self._paused = False
        self._free_at = 0.0
        self._pump_handle: Optional[asyncio.TimerHandle] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._heard_at = self._pinged_at = clock()
        self._why = "closed by the peer"

    # -- from the transport ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, LOWAT_BYTES)
        self._transport.set_write_buffer_limits(high=LOWAT_BYTES, low=0)
        hello = json.dumps({"pamdi": PROTOCOL, "device": self._me.device, "instance": self._me.instance}).encode()
        self._transport.write(struct.pack("<I", len(hello)) + hello)
        self._timer = self._loop.call_later(self._options.greeting_s_max, self._tick)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        now = self._clock()
        self._heard_at = now
        data = memoryview(bytes(self._view[:nbytes]))
        try:
            if self.peer is None:
                data = self._greet(data)
                if self.peer is None:
                    return
            incoming = self._reader.feed(data, now)
        except BadInput as error:
            self.close(str(error))
            return
        if self._reader.pings:
            self._answer_pings(now)
        for message in incoming:
            transit_s = message.waited_s + (now - message.first_at) + self.rtt_s / 2
            self._deliver(message.header, message.body, transit_s)

    def eof_received(self) -> None:
        return None

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    def connection_lost(self, error: Optional[Exception]) -> None:
        for handle in (self._timer, self._pump_handle):
            if handle is not None:
                handle.cancel()
        if not self.closed.done():
            self.closed.set_result(None)
        if self.peer is not None:
            self._owner.down(self, str(error) if error is not None else self._why)

    # -- from the owner --------------------------------------------------------------------------------------------

    def send(self, message: ms.AnyMessage, payload: Optional[Payload], urgency: float) -> bool:
        """Queue a message; never blocks. False when the queue's bound would be exceeded."""
        parts: List[memoryview] = []
        if payload is not None and isinstance(message, (ms.Tensor, ms.Answer)):
            message = msgspec.structs.replace(message, specs=specs(payload))
            parts = buffers(payload)
        parts.insert(0, memoryview(ms.encode(message)))
        if not self._writer.put(parts, urgency, self._clock()):
            self.overflows += 1
            return False
        self._pump()
        return True

    def close(self, why: str) -> None:
        self._why = why
        if self._transport is not None:
            self._transport.abort()

    async def flush(self, within_s: float) -> None:
        """Wait until what is queued has left, at most ``within_s``."""
        until = self._clock() + within_s
        while not self.closed.done() and self._clock() < until:
            if not self._writer and self._transport.get_write_buffer_size() == 0:
                return
            await asyncio.sleep(0.005)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _greet(self, data: memoryview) -> memoryview:
        self._greeting += data
        if len(self._greeting) < 4:
            return memoryview(b"")
        (size,) = struct.unpack_from("<I", self._greeting)
        if size > GREETING_BYTES_MAX:
            raise BadInput(f"the greeting claims {size} bytes: not a pamdi device")
        if len(self._greeting) < 4 + size:
            return memoryview(b"")
        try:
            hello = json.loads(bytes(self._greeting[4 : 4 + size]))
            version, device, instance = hello["pamdi"], str(hello["device"]), int(hello["instance"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput("the greeting cannot be read: not a pamdi device") from error
        if version != PROTOCOL:
            raise BadInput(f"{device} speaks protocol {version}, we speak {PROTOCOL}: update the older one")
        self.peer = Greeting(device, instance)
        self._heard_at = self._clock()
        if not self._owner.up(self):
            self.peer = None
            raise BadInput(f"{device} is not wanted here")
        self._tick()
        return memoryview(bytes(self._greeting[4 + size :]))

    def _deliver(self, header: bytes, body: memoryview, transit_s: float) -> None:
        try:
            message = ms.decode(header)
            described = ms.specs_of(message)
            payload = payload_from(described, body) if described else None
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, BadInput):
            self.unknown_messages += 1  # a newer peer may say more than we understand; that does not end the link
            return
        if self._options.delay_s:
            transit_s += self._options.delay_s
            self._loop.call_later(self._options.delay_s, self._hand_over, message, payload, len(body), transit_s)
        else:
            self._hand_over(message, payload, len(body), transit_s)

    def _hand_over(self, message: ms.AnyMessage, payload: Optional[Payload], nbytes: int, transit_s: float) -> None:
        if not self.closed.done():
            self._owner.message(self, message, payload, nbytes, transit_s)

    def _pump(self) -> None:
        """Write frames until the transport says stop, or the emulated link is busy."""
        rate = self._options.rate_bytes_per_s
        while self._writer and not self._paused and self._pump_handle is None and self.peer is not None:
            now = self._clock()
            if rate is not None and self._free_at > now:
                self._pump_handle = self._loop.call_later(self._free_at - now, self._pump_again)
                return
            pieces = self._writer.next_frame(now)
            size = sum(map(len, pieces))
            self.bytes_out += size
            if rate is not None:
                self._free_at = max(self._free_at, now) + size / rate
            self._transport.write(b"".join(pieces))

    def _pump_again(self) -> None:
        self._pump_handle = None
        self._pump()

    def _tick(self) -> None:
        """Keep-alive: a ping now and then, and the verdict on a silent peer."""
        now = self._clock()
        if self._timer is not None:
            self._timer.cancel()
        if self.peer is None:
            self.close("no greeting came")
            return
        if now - self._heard_at > self._options.silent_s_max:
            self.close(f"silent for {now - self._heard_at:.1f} s")
            return
        self._pinged_at = now
        self._transport.write(FRAME.pack(0, PING, 0))
        self._timer = self._loop.call_later(self._options.ping_every_s, self._tick)

    def _answer_pings(self, now: float) -> None:
        for flags in self._reader.pings:
            if flags & PING:
                self._transport.write(FRAME.pack(0, PONG, 0))
            else:
                measured = now - self._pinged_at
                self.rtt_s = measured if self.rtt_s == 0.0 else 0.8 * self.rtt_s + 0.2 * measured
        self._reader.pings.clear()
