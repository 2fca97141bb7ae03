"""All direct links of a device: exactly one connection per pair of neighbours, for ever tried again.

The device with the smaller id dials, the other accepts. A new life of a peer that connects while the old connection
still seems open replaces it: first the old link goes down, then the new one comes up.
"""

import asyncio
import errno
import random
from typing import Any, Callable, Dict, Optional, Tuple

from pamdi.core import messages as ms
from pamdi.core.allocation import Neighbour
from pamdi.core.errors import ConfigError
from pamdi.core.events import LinkDown, LinkUp, Received
from pamdi.daemon.arrays import Payload
from pamdi.daemon.link import Greeting, Link, LinkOptions, Listener

RETRY_S_MIN, RETRY_S_MAX = 0.05, 1.0
DIAL_S_MAX = 3.0
ACCEPTED_MAX = 256


class Links(Listener):
    """``on_event`` hears LinkUp, LinkDown and Received, in the order in which they happen."""

    def __init__(
        self, device: str, instance: int, on_event: Callable[[Any], None], clock: Callable[[], float],
        options: LinkOptions = LinkOptions(),
    ) -> None:  # fmt: skip
        self._me = Greeting(device, instance)
        self._on_event, self._clock, self._options = on_event, clock, options
        self._server: Optional[asyncio.AbstractServer] = None
        self._links: Dict[str, Link] = {}
        self._accepted = 0
        self._dials: Dict[Neighbour, "asyncio.Task[None]"] = {}
        self.port = 0
        self.log: Callable[[str], None] = lambda line: None

    async def listen(self, host: str, port: int) -> None:
        """Raises ConfigError when the address cannot be listened on."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._accept, host, port)
        except OSError as error:
            cure = "choose another [listen] port" if error.errno == errno.EADDRINUSE else "check [listen] host"
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}: {cure}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    def set_neighbours(self, neighbours: Tuple[Neighbour, ...]) -> None:
        """Keep dialling exactly these, where dialling is our part."""
        wanted = {n for n in neighbours if self._me.device < n.id}
        for neighbour in [n for n in self._dials if n not in wanted]:
            self._dials.pop(neighbour).cancel()
        for neighbour in wanted - set(self._dials):
            name = f"dial {neighbour.id}"
            self._dials[neighbour] = asyncio.get_running_loop().create_task(self._dial(neighbour))
            if hasattr(self._dials[neighbour], "set_name"):
                self._dials[neighbour].set_name(name)

    def send(
        self, peer: str, message: ms.AnyMessage, payload: Optional[Payload] = None, urgency: float = 1e300
    ) -> bool:
        """Never blocks. False when there is no link or no room; the core hears LinkDown for the former."""
        link = self._links.get(peer)
        return link is not None and link.send(message, payload, urgency)

    def counters(self) -> Dict[str, Dict[str, float]]:
        return {
            peer: {"bytes_out": link.bytes_out, "unknown": link.unknown_messages, "overflows": link.overflows,
                   "rtt_s": link.rtt_s}
            for peer, link in self._links.items()
        }  # fmt: skip

    async def close(self, flush_s: float) -> None:
        for task in self._dials.values():
            task.cancel()
        self._dials.clear()
        if self._server is not None:
            self._server.close()
        links = list(self._links.values())
        for link in links:
            await link.flush(flush_s)
        for link in links:
            link.close("this device stops")

    # -- from links ------------------------------------------------------------------------------------------------

    def up(self, link: Link) -> bool:
        assert link.peer is not None
        if link.peer.device == self._me.device:
            return False
        old = self._links.get(link.peer.device)
        if old is not None:
            self._drop(old)
            old.close("replaced by a new connection")
        self._links[link.peer.device] = link
        self.log(f"link to {link.peer.device} is up")
        self._on_event(LinkUp(link.peer.device, link.peer.instance))
        return True

    def down(self, link: Link, why: str) -> None:
        assert link.peer is not None
        if self._links.get(link.peer.device) is link:
            self.log(f"link to {link.peer.device} is down: {why}")
            self._drop(link)

    def message(
        self, link: Link, message: ms.AnyMessage, payload: Optional[Payload], nbytes: int, transit_s: float
    ) -> None:
        if link.peer is not None and self._links.get(link.peer.device) is link:
            self._on_event(Received(link.peer.device, message, payload, nbytes, transit_s))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _drop(self, link: Link) -> None:
        assert link.peer is not None
        del self._links[link.peer.device]
        self._on_event(LinkDown(link.peer.device))

    def _accept(self) -> Link:
        self._accepted += 1
        link = Link(self._me, self, self._options, self._clock)
        if self._accepted > ACCEPTED_MAX:
            asyncio.get_running_loop().call_soon(link.close, "too many connections")
        link.closed.add_done_callback(lambda _: self._one_less())
        return link

    def _one_less(self) -> None:
        self._accepted -= 1

    async def _dial(self, neighbour: Neighbour) -> None:
        loop = asyncio.get_running_loop()
        retry_s = RETRY_S_MIN
        while True:
            try:
                made = loop.create_connection(
                    lambda: Link(self._me, self, self._options, self._clock), neighbour.host, neighbour.port
                )  # fmt: skip
                _, link = await asyncio.wait_for(made, DIAL_S_MAX)
                began = self._clock()
                try:
                    await link.closed
                finally:
                    link.close("no longer a neighbour")
                retry_s = RETRY_S_MIN if self._clock() - began > RETRY_S_MAX else min(RETRY_S_MAX, 2 * retry_s)
            except (OSError, asyncio.TimeoutError):
                retry_s = min(RETRY_S_MAX, 2 * retry_s)
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))
