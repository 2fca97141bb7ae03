"""One direct connection to a neighbour: greeting, frames, keep-alive, and (as emulation) the pace of a slower link.

A connection belongs to one life of each side: the greeting carries both ends' instance numbers, and what an earlier
life sent cannot arrive on it. Nowhere behind the queue may much lie unsent, or that place would be the queue and
urgency would end there: the kernel holds 16 KiB (TCP_NOTSENT_LOWAT), the transport one frame that did not fit.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import msgspec

from pamdi.core import messages as ms
from pamdi.core.errors import BadInput
from pamdi.core.topics import valid_id
from pamdi.daemon.arrays import Payload, buffers, payload_from, specs
from pamdi.daemon.envelope import Envelope
from pamdi.daemon.frames import FRAME, HEADER_BYTES_MAX, PING, PONG, FrameReader, FrameWriter
from pamdi.daemon.pace import Delay, Pace
from pamdi.daemon.probe import URGENCY as PROBE_URGENCY
from pamdi.daemon.probe import Probe
from pamdi.daemon.words import Understood, decode, understood

PROTOCOL = 1
GREETING_BYTES_MAX = 4096
LOWAT_BYTES = 16 * 1024
TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
CONTROL_URGENCY = float("inf")
FLUSH_POLL_S = 0.002


class LinkOptions(NamedTuple):
    """Bounds in bytes and seconds. ``rate_bytes_per_s`` and ``delay_s`` emulate a slower link; None and 0 do not.

    ``silent_s_max``: nothing came; ``stalled_s_max``: bytes come, but the peer takes none of ours."""

    message_bytes_max: int = 64 * 2**20
    queue_bytes_max: int = 256 * 2**20
    ping_every_s: float = 0.5
    silent_s_max: float = 2.0
    greeting_s_max: float = 5.0
    rate_bytes_per_s: Optional[float] = None
    delay_s: float = 0.0
    stalled_s_max: float = 10.0


class Greeting(NamedTuple):
    device: str
    instance: int


class Hello(msgspec.Struct):
    """The first thing said in both directions, as JSON behind its length: ``pamdi`` is the protocol's version."""

    pamdi: int
    device: str
    instance: int


class Listener:
    """What a link tells its owner."""

    def up(self, link: "Link") -> str:
        """Why the link may not stay; "" lets it."""
        raise NotImplementedError

    def down(self, link: "Link", why: str) -> None:
        raise NotImplementedError

    def refused(self, link: "Link", why: str) -> None:
        """The connection ended before it was up."""
        raise NotImplementedError

    def overflow(self, link: "Link", nbytes: int) -> None:
        """A message was dropped: the queue is full."""
        raise NotImplementedError

    def message(
        self, link: "Link", message: ms.AnyMessage, payload: Optional[Payload], nbytes: int, transit_s: float
    ) -> None:
        raise NotImplementedError

    def envelope(self, link: "Link", envelope: Envelope, body: memoryview, transit_s: float) -> None:
        """Something for a tunnel, ours or somebody else's."""
        raise NotImplementedError

    def probe(self, link: "Link", probe: Probe) -> None:
        raise NotImplementedError

    def not_understood(self, link: "Link", kinds: Tuple[str, ...]) -> None:
        """The peer cannot read something that we said; it knows ``kinds``."""
        raise NotImplementedError


class Link(asyncio.BufferedProtocol):
    """The protocol of one connection. ``peer`` is known after the greeting; ``expected`` is whom we dialled;
    ``turned_away``, if not empty, is why the connection may not even greet."""

    def __init__(
        self, me: Greeting, owner: Listener, options: LinkOptions, clock: Callable[[], float], expected: str = "",
        turned_away: str = "",
    ) -> None:  # fmt: skip
        self.peer: Optional[Greeting] = None
        self.address, self.rtt_s = "", 0.0
        self.messages_in = self.messages_out = self.bytes_in = self.bytes_out = 0
        self.unknown_messages = self.overflows = 0
        self._loop = asyncio.get_running_loop()
        self.closed = self._loop.create_future()
        self._me, self._owner, self._options, self._clock = me, owner, options, clock
        self._expected, self._turned_away = expected, turned_away
        self._transport: Any = None
        self._writer = FrameWriter(options.queue_bytes_max)
        self._reader = FrameReader(options.message_bytes_max + HEADER_BYTES_MAX, options.queue_bytes_max)
        self._space = self._reader.space()
        self._greeting, self._paused = bytearray(), False
        self._pace = Pace(options.rate_bytes_per_s) if options.rate_bytes_per_s is not None else None
        self._delay = Delay(options.delay_s, clock, self._loop.call_later) if options.delay_s else None
        self._pump_timer: Optional[asyncio.TimerHandle] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._heard_at = self._answered_at = self._pinged_at = clock()
        self._ping_number, self._busy_s, self._tick_at = 0, 0.0, float("inf")  # the last: when the next tick is due
        self._ping_due = self._ending = self._told_words = False
        self._pong_due: Optional[int] = None
        self._busy_since: Optional[float] = None
        self._why = "closed by the peer"

    # -- from the transport ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        host = transport.get_extra_info("peername") or ("?", 0)
        self.address = f"{host[0]}:{host[1]}"
        if self._turned_away or self.closed.done():  # one too many, or given up meanwhile
            self.close(self._turned_away or self._why)
            return
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, LOWAT_BYTES)
        self._transport.set_write_buffer_limits(high=0, low=0)
        hello = msgspec.json.encode(Hello(PROTOCOL, self._me.device, self._me.instance))
        self._transport.write(struct.pack("<I", len(hello)) + hello)
        self._timer = self._loop.call_later(self._options.greeting_s_max, self._no_greeting)

    def get_buffer(self, sizehint: int) -> memoryview:
        self._space = self._reader.space()
        return self._space

    def buffer_updated(self, nbytes: int) -> None:
        now = self._clock()
        self._heard_at = now
        self.bytes_in += nbytes
        try:
            if self.peer is None:
                incoming = self._reader.feed(self._greet(self._space[:nbytes]), now)
            else:
                incoming = self._reader.received(nbytes, now)
        except BadInput as error:
            self.close(str(error))
            return
        if self._reader.pings:
            self._pinged(now)
        for message in incoming:
            transit_s = message.waited_s + (now - message.first_at) + self.rtt_s / 2
            self._understand(message.header, message.body, transit_s)

    def eof_received(self) -> None:
        return None

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._say_pings()
        self._pump()

    def connection_lost(self, error: Optional[Exception]) -> None:
        if self.closed.done():
            return
        self.closed.set_result(None)
        for handle in (self._timer, self._pump_timer, self._delay):
            if handle is not None:
                handle.cancel()
        why = str(error) if error is not None else self._why
        if self.peer is not None:
            self._owner.down(self, why)
        else:
            self._owner.refused(self, why)

    # -- from the owner --------------------------------------------------------------------------------------------

    def send(self, message: ms.AnyMessage, payload: Optional[Payload], urgency: float) -> bool:
        """Queue a message; never blocks. False when a bound would be exceeded; BadInput when the payload cannot
        travel."""
        if self._ending:
            return False
        parts: List[memoryview] = []
        if payload is not None and isinstance(message, (ms.Tensor, ms.Answer)):
            message = msgspec.structs.replace(message, specs=specs(payload))
            parts = buffers(payload)
        return self._queue(memoryview(ms.encode(message)), parts, urgency if payload is not None else CONTROL_URGENCY)

    def send_envelope(self, envelope: Envelope, body: List[memoryview]) -> bool:
        """Like ``send``, for what goes further: as urgent as what is in it."""
        return not self._ending and self._queue(memoryview(msgspec.msgpack.encode(envelope)), body, envelope.urgency)

    def send_probe(self, probe: Probe, body: memoryview) -> bool:
        return not self._ending and self._queue(memoryview(msgspec.msgpack.encode(probe)), [body], PROBE_URGENCY)

    def _queue(self, header: memoryview, body: List[memoryview], urgency: float) -> bool:
        body_bytes = sum(map(len, body))
        parts = [header, *body]
        now = self._clock()
        if body_bytes > self._options.message_bytes_max or not self._writer.put(parts, urgency, now):
            self.overflows += 1
            self._owner.overflow(self, body_bytes)
            return False
        self.messages_out += 1
        if self._busy_since is None:
            self._busy_since = now
        self._pump()
        return True

    def close(self, why: str) -> None:
        self._why = why
        if self._transport is not None:
            self._transport.abort()

    def give_up(self, why: str) -> None:
        """Close what may be open already while its dialling is cancelled: uvloop closes that without a word to us, and
        a link of which nobody heard that it is down would be written to."""
        self.close(why)
        self.connection_lost(None)

    async def finish(self, within_s: float, why: str) -> None:
        """Let what is queued leave and the peer read it to its end, at most ``within_s``; then close."""
        until = self._clock() + within_s
        while (self._writer or self._paused) and not self.closed.done() and self._clock() < until:
            await asyncio.sleep(FLUSH_POLL_S)
        if self._transport is not None and not self._transport.is_closing() and not self._writer:
            self._ending = True
            with contextlib.suppress(OSError):  # the peer has gone already
                self._transport.write_eof()
            await asyncio.wait([self.closed], timeout=max(0.0, until - self._clock()))
        self.close(why)

    def counters(self) -> Dict[str, float]:
        """``busy_s``: seconds in which something waited to leave; its growth over time is the link's utilisation."""
        busy_s = self._busy_s + (self._clock() - self._busy_since if self._busy_since is not None else 0.0)
        return {
            "bytes_in": self.bytes_in, "bytes_out": self.bytes_out, "messages_in": self.messages_in,
            "messages_out": self.messages_out, "bytes_waiting": self._writer.bytes_waiting, "busy_s": round(busy_s, 6),
            "unknown": self.unknown_messages, "overflows": self.overflows, "rtt_s": self.rtt_s,
        }  # fmt: skip

    # -- inside ----------------------------------------------------------------------------------------------------

    def _greet(self, data: memoryview) -> memoryview:
        """Takes the greeting; what is left of ``data`` behind it. Raises BadInput for who is none of ours."""
        self._greeting += data
        if len(self._greeting) < 4:
            return memoryview(b"")
        (size,) = struct.unpack_from("<I", self._greeting)
        if size > GREETING_BYTES_MAX:
            raise BadInput(f"the greeting claims {size} bytes: not a pamdi device")
        if len(self._greeting) < 4 + size:
            return memoryview(b"")
        self.peer = self._read_hello(bytes(self._greeting[4 : 4 + size]))
        self._answered_at = self._clock()
        unwanted = self._owner.up(self)
        if unwanted:
            self.peer = None
            raise BadInput(unwanted)
        self._tick()
        return memoryview(bytes(self._greeting[4 + size :]))

    def _read_hello(self, data: bytes) -> Greeting:
        try:
            hello = msgspec.json.decode(data, type=Hello)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadInput("the greeting cannot be read: not a pamdi device") from error
        if not valid_id(hello.device):
            raise BadInput("the greeting names no valid device id")
        if hello.pamdi != PROTOCOL:
            raise BadInput(f"{hello.device} speaks protocol {hello.pamdi}, we speak {PROTOCOL}: update the older one")
        if self._expected and hello.device != self._expected:
            raise BadInput(f"{hello.device} answers there, not {self._expected}: check [listen] advertise of both")
        return Greeting(hello.device, hello.instance)

    def _understand(self, header: bytes, body: memoryview, transit_s: float) -> None:
        try:
            message = decode(header)
            bare = isinstance(message, (Envelope, Probe, Understood))
            described = [] if bare else ms.specs_of(message)  # type: ignore[arg-type]
            whole = bare or not (described or len(body))
            payload = None if whole else payload_from(described, body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadInput):
            self._unknown()
            return
        self.messages_in += 1
        if isinstance(message, Probe):
            probe = message
            self._later(lambda t: self._owner.probe(self, probe), transit_s)
        elif isinstance(message, Envelope):
            envelope = message
            self._later(lambda t: self._owner.envelope(self, envelope, body, t), transit_s)
        elif isinstance(message, Understood):
            self._owner.not_understood(self, message.kinds)
        else:
            said = message
            self._later(lambda t: self._owner.message(self, said, payload, len(body), t), transit_s)

    def _unknown(self) -> None:
        """A newer peer may say more than we understand; that does not end the link."""
        self.unknown_messages += 1
        if not self._told_words and not self._ending:
            self._told_words = True
            self._queue(memoryview(understood()), [], CONTROL_URGENCY)

    def _later(self, hand_over: Callable[[float], None], transit_s: float) -> None:
        delay = self._delay
        if delay is None:
            hand_over(transit_s)
        else:
            delay.put(lambda: hand_over(transit_s + delay.delay_s))

    def _pump(self) -> None:
        """Write frames until the transport says stop, or the emulated link is busy."""
        while self._writer and not self._paused and self._pump_timer is None and self.peer is not None:
            now = self._clock()
            if self._pace is not None:
                wait_s = self._pace.wait_s(now)
                if wait_s:
                    self._pump_timer = self._loop.call_later(wait_s, self._pump_again)
                    return
            pieces = self._writer.next_frame(now)
            size = sum(map(len, pieces))
            self.bytes_out += size
            if self._pace is not None:
                self._pace.spend(size, now)
            self._transport.write(b"".join(pieces))  # one copy of a frame costs less than its three writes
        if not self._writer and not self._paused and self._busy_since is not None:
            self._busy_s += self._clock() - self._busy_since
            self._busy_since = None
            if self._pace is not None:
                self._pace.rest()

    def _pump_again(self) -> None:
        self._pump_timer = None
        self._pump()

    def _no_greeting(self) -> None:
        self.close(f"no greeting within {self._options.greeting_s_max:g} s")

    def _tick(self) -> None:
        """Keep-alive: a ping now and then, and the verdict on a peer that is silent or takes nothing."""
        if self._timer is not None:
            self._timer.cancel()
        now, options = self._clock(), self._options
        late_s = max(0.0, now - self._tick_at)  # we were held up ourselves: nobody is silent while we do not listen
        self._heard_at, self._answered_at = min(now, self._heard_at + late_s), min(now, self._answered_at + late_s)
        self._tick_at = now + options.ping_every_s
        if now - self._heard_at > options.silent_s_max:
            self.close(f"silent for {now - self._heard_at:.1f} s")
            return
        if now - self._answered_at > options.stalled_s_max:
            self.close(f"has taken nothing for {now - self._answered_at:.1f} s")
            return
        self._ping_due = True
        self._say_pings()
        self._timer = self._loop.call_later(options.ping_every_s, self._tick)

    def _say_pings(self) -> None:
        """At most one of each is owed, so that a peer that takes nothing makes nothing grow."""
        if self._paused or self._ending:
            return
        if self._pong_due is not None:
            number, self._pong_due = self._pong_due, None
            self._transport.write(FRAME.pack(0, PONG, number))
        if self._ping_due:
            self._ping_due = False
            self._ping_number = (self._ping_number + 1) & 0xFFFFFFFF
            self._pinged_at = self._clock()
            self._transport.write(FRAME.pack(0, PING, self._ping_number))

    def _pinged(self, now: float) -> None:
        """Answer the newest ping; learn from the newest pong."""
        for flags, number in self._reader.pings:
            if flags & PING:
                self._pong_due = number
                continue
            self._answered_at = now
            if number == self._ping_number:
                measured = now - self._pinged_at
                self.rtt_s = measured if self.rtt_s == 0.0 else 0.8 * self.rtt_s + 0.2 * measured
        self._reader.pings.clear()
        self._say_pings()
