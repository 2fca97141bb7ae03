"""A link over somebody else: to a device that cannot be dialled, by way of neighbours or of the broker.

Carriers lose things: one dies with what it held, another's queue is full. The core relies on a link that either
delivers or goes down, so a tunnel is made to look like one. Each end gives each life of the tunnel a number, its
*session*, and every envelope carries the sender's and the one that the sender has seen of the other end. A tunnel is up
when an envelope has come that knows our session. It goes down when nothing has come for ``silent_s_max``, when the
other end has another session, when a carrier says that something was lost, and when our carrier fails; then a new
session begins, so that the other end goes down too, and what still lies on the way is recognised and dropped.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import msgspec

from pamdi.core import messages as ms
from pamdi.core.errors import BadInput
from pamdi.core.events import LinkDown, LinkUp, Received
from pamdi.daemon.arrays import Payload, buffers, payload_from, specs
from pamdi.daemon.envelope import Envelope
from pamdi.daemon.probe import Probe
from pamdi.daemon.words import Understood, decode, not_understood, understood

HELLO_EVERY_S = 0.5
SILENT_S_MAX = 2.5
CONTROL_URGENCY = float("inf")

Carry = Callable[[Envelope, Tuple[Any, ...], float], bool]


class Way(NamedTuple):
    """How a target is reached. ``stops``: the devices after this one, the target last. ``carry``: puts an envelope on
    its way; False when it cannot be."""

    stops: Tuple[str, ...]
    carry: Carry


class _End:
    """Our end of one tunnel. ``theirs``: the session and instance of the other end, 0 while unknown."""

    __slots__ = ("heard_at", "instance", "said_at", "session", "theirs", "told_words", "up", "way")

    def __init__(self, way: Way, session: int) -> None:
        self.way, self.session = way, session
        self.theirs = self.instance = 0
        self.up = self.told_words = False
        self.heard_at = self.said_at = float("-inf")


class Tunnels:
    """All tunnels of a device. ``sessions``: a number that this device has never used before."""

    def __init__(
        self,
        device: str,
        instance: int,
        on_event: Callable[[Any], None],
        clock: Callable[[], float],
        sessions: Callable[[], int],
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._device, self._instance = device, instance
        self._on_event, self._clock, self._sessions, self._log = on_event, clock, sessions, log
        self._ends: Dict[str, _End] = {}
        self._ticked_at = float("inf")
        self.stale = self.unknown = 0

    def set_targets(self, ways: Dict[str, Way]) -> None:
        """Keep tunnels to exactly these."""
        for target in [t for t, end in self._ends.items() if t not in ways or ways[t] != end.way]:
            self._down(target, "another way, or none")
            del self._ends[target]
        for target, way in ways.items():
            if target not in self._ends:
                self._ends[target] = _End(way, self._sessions())
                self._hello(target)

    def has(self, target: str) -> bool:
        return target in self._ends

    def send(self, target: str, message: ms.AnyMessage, payload: Optional[Payload], urgency: float) -> bool:
        """Never blocks. False when the tunnel is not up, or goes down because its carrier takes no more; BadInput when
        the payload cannot travel."""
        end = self._ends.get(target)
        if end is None or not end.up:
            return False
        body: List[memoryview] = []
        if payload is not None and isinstance(message, (ms.Tensor, ms.Answer)):
            message = msgspec.structs.replace(message, specs=specs(payload))
            body = buffers(payload)
        sent = self._say(end, ms.encode(message), tuple(body), urgency if body else CONTROL_URGENCY)
        if not sent:
            self.lost(target, "its carrier takes no more")
        return sent

    def received(self, envelope: Envelope, body: memoryview, transit_s: float) -> None:
        """An envelope whose target is this device."""
        end = self._ends.get(envelope.sender)
        if end is None:
            return
        if envelope.dropped:
            self.lost(envelope.sender, "something was lost on the way")
            return
        if not envelope.session or (envelope.instance == end.instance and envelope.session < end.theirs):
            self.stale += 1  # of an earlier life of the tunnel
            return
        end.heard_at = self._clock()
        if envelope.session != end.theirs:
            end.theirs, end.instance = envelope.session, envelope.instance
            if end.up:
                self._renew(envelope.sender, "the other end began anew")
        if envelope.seen != end.session:
            self._hello(envelope.sender)  # so that they learn ours at once
            return
        if not end.up:
            end.up = True
            self._log(f"link to {envelope.sender} is up, over {_over(end.way)}")
            self._on_event(LinkUp(envelope.sender, end.instance))
            self._hello(envelope.sender)
        if envelope.header:
            self._deliver(envelope, body, transit_s)

    def lost(self, target: str, why: str) -> None:
        """The carrier cannot vouch for what is on the way."""
        end = self._ends.get(target)
        if end is not None and end.up:
            self._renew(target, why)

    def lost_through(self, neighbour: str) -> None:
        """``neighbour`` is gone, and with it what it carried."""
        for target, end in list(self._ends.items()):
            if end.way.stops[0] == neighbour:
                self.lost(target, f"{neighbour} is out of reach")

    def lost_with(self, carry: Carry, why: str) -> None:
        """This carrier has lost things, and cannot say which."""
        for target, end in list(self._ends.items()):
            if end.way.carry == carry:
                self.lost(target, why)

    def tick(self) -> None:
        """Call this every ``HELLO_EVERY_S`` at least."""
        now = self._clock()
        late_s = max(0.0, now - self._ticked_at - HELLO_EVERY_S)  # held up ourselves: nobody is silent meanwhile
        self._ticked_at = now
        for target, end in list(self._ends.items()):
            end.heard_at = min(now, end.heard_at + late_s)
            if end.up and now - end.heard_at > SILENT_S_MAX:
                self._renew(target, f"silent for {now - end.heard_at:.1f} s")
            if now - end.said_at >= HELLO_EVERY_S / 2:
                self._hello(target)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _deliver(self, envelope: Envelope, body: memoryview, transit_s: float) -> None:
        try:
            message = decode(envelope.header)
            if isinstance(message, Understood):
                self._log(not_understood(envelope.sender, message.kinds))
                return
            if isinstance(message, (Envelope, Probe)):
                raise BadInput("an envelope within an envelope, or a probe")
            described = ms.specs_of(message)
            payload = payload_from(described, body) if described or len(body) else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadInput):
            self._unknown(self._ends[envelope.sender])
            return
        self._on_event(Received(envelope.sender, message, payload, len(body), transit_s + envelope.waited_s))

    def _unknown(self, end: _End) -> None:
        """A newer device may say more than we understand."""
        self.unknown += 1
        if not end.told_words:
            end.told_words = True
            self._say(end, understood(), (), CONTROL_URGENCY)

    def _hello(self, target: str) -> None:
        self._say(self._ends[target], b"", (), CONTROL_URGENCY)

    def _say(self, end: _End, header: bytes, body: Tuple[Any, ...], urgency: float) -> bool:
        end.said_at = self._clock()
        envelope = Envelope(
            end.way.stops, (self._device,), self._instance, end.session, end.theirs, urgency, 0.0, header
        )  # fmt: skip
        return end.way.carry(envelope, body, urgency)

    def _renew(self, target: str, why: str) -> None:
        self._down(target, why)
        self._ends[target].session = self._sessions()
        self._hello(target)

    def _down(self, target: str, why: str) -> None:
        end = self._ends[target]
        if end.up:
            end.up = False
            self._log(f"link to {target} is down: {why}")
            self._on_event(LinkDown(target))


def _over(way: Way) -> str:
    return ", ".join(way.stops[:-1]) or "the broker"
