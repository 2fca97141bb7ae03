"""Where others connect: a listening socket that outlives what goes wrong with it.

asyncio's own servers are not used, because uvloop's closes for good, and without a word, when ``accept`` fails for any
reason but the commonest: a device whose machine was short of descriptors or memory for a moment would be deaf until
its next start. Here a connection that cannot be accepted stays in the kernel's queue, and is tried again. What no try
can mend, a defect, ends the loop of its address: whoever listens must look at ``loops``, or would be deaf.
"""

import asyncio
import socket
from typing import Callable, List

from pamdi.daemon.descriptors import NONE_LEFT

BACKLOG = 128
RETRY_S = 0.5


class Acceptor:
    """``make()`` is the protocol of each connection; ``log`` hears of what is wrong, once until it has passed."""

    def __init__(self, make: Callable[[], asyncio.BaseProtocol], log: Callable[[str], None]) -> None:
        self._make, self._log = make, log
        self._sockets: List[socket.socket] = []
        self.loops: "List[asyncio.Task[None]]" = []

    async def listen(self, host: str, port: int) -> int:
        """On every address of ``host``. Returns the port, which is the system's choice where ``port`` is 0. Raises
        OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                self._sockets.append(_listening(family, address))
        except OSError:
            self._close_sockets()
            raise
        self.loops = [asyncio.create_task(self._accept(sock), name="accept") for sock in self._sockets]
        return int(self._sockets[0].getsockname()[1])

    async def close(self) -> None:
        for loop in self.loops:
            loop.cancel()
        await asyncio.gather(*self.loops, return_exceptions=True)
        for sock in self._sockets:  # Python 3.8 goes on watching what nobody awaits, and whoever gets its number next
            asyncio.get_running_loop().remove_reader(sock)
        self._close_sockets()

    async def _accept(self, listening: socket.socket) -> None:
        loop, said = asyncio.get_running_loop(), ""
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
                said = ""
            except ConnectionError:
                continue  # it has gone again
            except OSError as error:
                if error.errno not in NONE_LEFT and str(error) != said:  # of those, ``descriptors.watch`` tells
                    said = str(error)
                    self._log(f"port {listening.getsockname()[1]} cannot accept connections: {error}: they wait")
                await asyncio.sleep(RETRY_S)
                continue
            protocol = self._make()
            try:
                await loop.connect_accepted_socket(lambda: protocol, connection)  # noqa: B023 called within
            except OSError as error:
                connection.close()
                protocol.connection_lost(error)  # else whoever counts them would count it for ever

    def _close_sockets(self) -> None:
        while self._sockets:
            self._sockets.pop().close()


def _listening(family: int, address: "tuple[object, ...]") -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
