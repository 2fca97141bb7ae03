"""All direct links of a device: exactly one connection per pair of neighbours, for ever tried again.

The device with the smaller id dials, the other accepts. A new life of a peer that connects while the old connection
still seems open replaces it: first the old link goes down, then the new one comes up. Who is not (yet) among the
neighbours may connect too: its allocation may simply have come first.

To devices that cannot be dialled there are tunnels (``tunnel.py``), by way of neighbours or of the broker; whoever
sends does not see the difference. A direct link goes before a tunnel.
"""

import asyncio
import errno
import itertools
import random
import time
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import msgspec

from pamdi.core import messages as ms
from pamdi.core.allocation import Neighbour
from pamdi.core.errors import BadInput, ConfigError
from pamdi.core.events import LinkDown, LinkUp, Received
from pamdi.daemon.accepting import Acceptor
from pamdi.daemon.arrays import Payload
from pamdi.daemon.envelope import Envelope
from pamdi.daemon.link import CONTROL_URGENCY, Greeting, Link, LinkOptions, Listener
from pamdi.daemon.lookups import Lookups
from pamdi.daemon.probe import Probe
from pamdi.daemon.relay import Relay
from pamdi.daemon.tunnel import HELLO_EVERY_S, Carry, Tunnels, Way
from pamdi.daemon.words import not_understood

RETRY_S_MIN, RETRY_S_MAX = 0.05, 1.0
DIAL_S_MAX = 3.0
ACCEPTED_MAX = 256  # beyond those of neighbours that dial us: newcomers whose allocation has come first, and strangers
COMPLAINTS_MAX = 64  # remembered, so that one that comes at every retry is said once
NOT_WANTED = "no longer a neighbour"
GONE_S_MAX = 0.25  # for the transports to notice that they are closed


class Links(Listener):
    """``on_event`` hears LinkUp, LinkDown and Received, in the order in which they happen."""

    def __init__(
        self, device: str, instance: int, on_event: Callable[[Any], None], clock: Callable[[], float],
        options: LinkOptions = LinkOptions(),
    ) -> None:  # fmt: skip
        self._me = Greeting(device, instance)
        self._on_event, self._clock, self._options = on_event, clock, options
        self._acceptor = Acceptor(self._accept, lambda line: self.log(line))
        self._lookups = Lookups()
        self._links: Dict[str, Link] = {}
        self._accepted: Set[Link] = set()
        self._dials: Dict[Neighbour, "asyncio.Task[None]"] = {}
        self._dialled_by = 0  # neighbours
        self._complaints: "OrderedDict[Tuple[str, str], None]" = OrderedDict()
        self._closing = False
        self._failed = asyncio.get_running_loop().create_future()
        self.port = 0
        self.refusals = 0
        self.log: Callable[[str], None] = lambda line: None
        sessions = itertools.count(time.time_ns())
        self.tunnels = Tunnels(
            device, instance, on_event, clock, sessions.__next__, lambda line: self.log(line)
        )  # fmt: skip
        self.relay = Relay(device, self._send_on)
        self.over_broker: Carry = lambda envelope, body, urgency: False
        self._tunnel_ways: Dict[str, Way] = {}
        self._ticking: Optional["asyncio.Task[None]"] = None
        self.on_overflow: Callable[[str, int], None] = self._say_overflow
        self.on_probe: Callable[[str, Probe, float], None] = lambda peer, probe, now: None

    async def listen(self, host: str, port: int) -> None:
        """Raises ConfigError when the address cannot be listened on."""
        try:
            _check_port(port, 0)
            self.port = await self._acceptor.listen(host, port)
        except (OSError, ValueError) as error:
            in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            cure = "choose another [listen] port" if in_use else "check [listen] host and port"
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"cannot listen on {host}:{port}: {why}: {cure}") from error
        for loop in self._acceptor.loops:
            loop.add_done_callback(self._ended)

    async def run(self) -> None:
        """Until cancelled. Raises what ended a loop that accepts, dials or keeps the tunnels: the device would seem
        alive, and be deaf on that side."""
        await self._failed

    def set_neighbours(self, neighbours: Tuple[Neighbour, ...]) -> None:
        """Keep dialling exactly these, where dialling is our part, and tunnels to those that cannot be dialled."""
        direct = {n for n in neighbours if not n.via and n.plane == "link"}
        self._set_tunnels([n for n in neighbours if n not in direct])
        self._dialled_by = sum(n.id < self._me.device for n in direct)
        # What is planned with of a link may change; that is no reason to hang up.
        dialled = (msgspec.structs.replace(n, rate_bytes_per_s=1.0, delay_s=0.0) for n in direct)
        wanted = {n for n in dialled if self._me.device < n.id} if not self._closing else set()
        for neighbour in [n for n in self._dials if n not in wanted]:
            self._dials.pop(neighbour).cancel()
        for neighbour in wanted - set(self._dials):
            self._dials[neighbour] = asyncio.create_task(self._dial(neighbour), name=f"dial {neighbour.id}")
            self._dials[neighbour].add_done_callback(self._ended)

    def send(
        self, peer: str, message: ms.AnyMessage, payload: Optional[Payload] = None, urgency: float = CONTROL_URGENCY
    ) -> bool:
        """Never blocks. False when there is no link or no room; the core hears LinkDown for the former."""
        link = self._links.get(peer)
        try:
            if link is None:
                return self.tunnels.send(peer, message, payload, urgency)
            return link.send(message, payload, urgency)
        except BadInput as error:
            self._complain(peer, f"{type(message).__name__} was not sent: {error}")
            return False

    def counters(self) -> Dict[str, Dict[str, float]]:
        return {peer: link.counters() for peer, link in self._links.items()}

    def totals(self) -> Dict[str, int]:
        """Of all links together, and of what goes over others."""
        return {
            "connections_refused": self.refusals, "relayed": self.relay.relayed, "relays_dropped": self.relay.dropped,
            "tunnels_stale": self.tunnels.stale, "tunnels_unknown": self.tunnels.unknown,
        }  # fmt: skip

    async def close(self, flush_s: float) -> None:
        """What is queued may still leave, all links together at most ``flush_s``."""
        self._closing = True
        await self._acceptor.close()
        greeted = set(self._links.values())
        strangers = self._accepted - greeted
        for link in strangers:
            link.close("this device stops")
        await asyncio.gather(*(link.finish(flush_s, "this device stops") for link in greeted))
        dials = list(self._dials.values()) + ([self._ticking] if self._ticking is not None else [])
        for task in dials:
            task.cancel()
        self._dials.clear()
        self._lookups.close()
        pending = [link.closed for link in greeted | strangers if not link.closed.done()] + dials
        if pending:
            await asyncio.wait(pending, timeout=GONE_S_MAX)

    # -- from links ------------------------------------------------------------------------------------------------

    def up(self, link: Link) -> str:
        assert link.peer is not None
        if link.peer.device == self._me.device:
            return f"{link.peer.device} is this device's own id"
        if self._closing:
            return "this device stops"
        old = self._links.get(link.peer.device)
        if old is not None:
            self._drop(old)
            old.close("replaced by a new connection")
        self._links[link.peer.device] = link
        self._open_tunnels()  # a direct link goes before a tunnel
        self.log(f"link to {link.peer.device} is up")
        self._on_event(LinkUp(link.peer.device, link.peer.instance))
        return ""

    def down(self, link: Link, why: str) -> None:
        assert link.peer is not None
        if self._links.get(link.peer.device) is link:
            self.log(f"link to {link.peer.device} is down: {why}")
            self._drop(link)

    def refused(self, link: Link, why: str) -> None:
        if self._closing or why == NOT_WANTED:
            return
        self.refusals += 1
        self._complain(link.address.rpartition(":")[0], f"connection with {link.address} ended: {why}", why)

    def overflow(self, link: Link, nbytes: int) -> None:
        if link.peer is not None:
            self.on_overflow(link.peer.device, nbytes)

    def message(
        self, link: Link, message: ms.AnyMessage, payload: Optional[Payload], nbytes: int, transit_s: float
    ) -> None:
        if link.peer is not None and self._links.get(link.peer.device) is link:
            self._on_event(Received(link.peer.device, message, payload, nbytes, transit_s))

    def envelope(self, link: Link, envelope: Envelope, body: memoryview, transit_s: float) -> None:
        known = link.peer is not None and self._links.get(link.peer.device) is link
        if not known or envelope.way[0] != self._me.device:
            return
        if len(envelope.way) > 1:
            self.relay.forward(envelope, body, transit_s)
        else:
            self.tunnels.received(envelope, body, transit_s)

    def probe(self, link: Link, probe: Probe) -> None:
        if link.peer is not None and self._links.get(link.peer.device) is link:
            self.on_probe(link.peer.device, probe, self._clock())

    def not_understood(self, link: Link, kinds: Tuple[str, ...]) -> None:
        if link.peer is not None:
            self._complain(link.peer.device, not_understood(link.peer.device, kinds))

    def send_probe(self, peer: str, probe: Probe, body: memoryview) -> bool:
        link = self._links.get(peer)
        return link is not None and link.send_probe(probe, body)

    # -- tunnels ---------------------------------------------------------------------------------------------------

    def _set_tunnels(self, neighbours: List[Neighbour]) -> None:
        self._tunnel_ways = {
            n.id: Way((*n.via, n.id), self.over_broker if n.plane == "mqtt" else self._carry) for n in neighbours
        }
        self._open_tunnels()
        if self._tunnel_ways and self._ticking is None and not self._closing:
            self._ticking = asyncio.create_task(self._tick_tunnels(), name="tunnels")
            self._ticking.add_done_callback(self._ended)

    def _open_tunnels(self) -> None:
        self.tunnels.set_targets({id: way for id, way in self._tunnel_ways.items() if id not in self._links})

    async def _tick_tunnels(self) -> None:
        while True:
            self.tunnels.tick()
            await asyncio.sleep(HELLO_EVERY_S / 2)

    def _carry(self, envelope: Envelope, body: Tuple[Any, ...], urgency: float) -> bool:
        return self._send_on(envelope.way[0], envelope, body)

    def _send_on(self, neighbour: str, envelope: Envelope, body: Tuple[Any, ...]) -> bool:
        link = self._links.get(neighbour)
        return link is not None and link.send_envelope(envelope, list(body))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _ended(self, loop: "asyncio.Task[None]") -> None:
        error = None if loop.cancelled() else loop.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _drop(self, link: Link) -> None:
        assert link.peer is not None
        gone = link.peer.device
        del self._links[gone]
        self._on_event(LinkDown(gone))
        self.tunnels.lost_through(gone)
        self.relay.link_down(gone)
        self._open_tunnels()

    def _say_overflow(self, peer: str, nbytes: int) -> None:
        self._complain(peer, f"link to {peer} is full: a message of {nbytes} bytes was dropped", "full")

    def _complain(self, who: str, line: str, what: str = "") -> None:
        """One line, once: whoever is turned away comes again every second."""
        key = (who, what or line)
        if key not in self._complaints:
            self.log(line)
        self._complaints[key] = None
        self._complaints.move_to_end(key)
        if len(self._complaints) > COMPLAINTS_MAX:
            self._complaints.popitem(last=False)

    def _accept(self) -> Link:
        limit = ACCEPTED_MAX + self._dialled_by
        full = f"{limit} connections are the limit" if len(self._accepted) >= limit else ""
        link = Link(self._me, self, self._options, self._clock, turned_away=full)
        self._accepted.add(link)
        link.closed.add_done_callback(lambda _: self._accepted.discard(link))
        return link

    async def _dial(self, neighbour: Neighbour) -> None:
        retry_s = RETRY_S_MIN
        while not self._closing:
            lasted_s = await self._connection(neighbour)
            retry_s = RETRY_S_MIN if lasted_s > RETRY_S_MAX else min(RETRY_S_MAX, 2 * retry_s)
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))

    async def _connection(self, neighbour: Neighbour) -> float:
        """One try to reach ``neighbour``, and the connection's life; how many seconds it lasted."""
        link = Link(self._me, self, self._options, self._clock, expected=neighbour.id)
        dialling: "Optional[asyncio.Future[Any]]" = None
        try:
            _check_port(neighbour.port, 1)
            addresses = await self._lookups.addresses(neighbour.host)
            dialling = asyncio.ensure_future(_reach(link, addresses, neighbour.port))
            # Not ``wait_for``: before Python 3.12 it overhears a cancellation that comes together with the connection.
            await asyncio.wait([dialling], timeout=DIAL_S_MAX)
            if not dialling.done():
                return 0.0
            dialling.result()
            began = self._clock()
            await asyncio.shield(link.closed)
        except OSError:
            return 0.0
        except ValueError as error:
            self._complain(neighbour.id, f"cannot dial {neighbour.id} at {neighbour.host}:{neighbour.port}: {error}")
            return 0.0
        finally:
            if dialling is not None:
                dialling.add_done_callback(_heard)
                dialling.cancel()
            link.give_up(NOT_WANTED)
        return self._clock() - began


async def _reach(link: Link, addresses: List[str], port: int) -> None:
    """By the first of ``addresses`` that answers. Raises OSError where none does."""
    for number, address in enumerate(addresses, 1):
        try:
            await asyncio.get_running_loop().create_connection(lambda: link, address, port)
            return
        except OSError:
            if number == len(addresses):
                raise


def _heard(dialling: "asyncio.Future[Any]") -> None:
    """Nobody waits any longer for what went wrong; unread, it would be logged as forgotten."""
    if not dialling.cancelled():
        dialling.exception()


def _check_port(port: int, port_min: int) -> None:
    """uvloop takes a port modulo 65536, without a word."""
    if not port_min <= port < 2**16:
        raise ValueError(f"a port is {port_min} to 65535")
