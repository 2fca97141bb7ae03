"""A TCP proxy that can be made slow: bytes per second in each direction, whatever goes through it."""

import asyncio
import contextlib
import socket
from typing import List, Optional

CHUNK_BYTES = 2048
BUFFER_BYTES = 8192  # of the kernel, so that what waits, waits at the sender


class SlowWire:
    """``rate_bytes_per_s`` may be set at any time; None: as fast as it goes."""

    def __init__(self, host: str, port: int, to: str) -> None:
        self._host, self._port, self._to = host, port, to
        self.rate_bytes_per_s: Optional[float] = None
        self._server: Optional[asyncio.AbstractServer] = None
        self._tasks: List["asyncio.Task[None]"] = []

    async def __aenter__(self) -> "SlowWire":
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        listener.bind((self._host, self._port))
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=BUFFER_BYTES)
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.02)  # for the transports to close

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = socket.socket()
            there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            there.setblocking(False)
            await asyncio.get_running_loop().sock_connect(there, (self._to, self._port))
            far_reader, far_writer = await asyncio.open_connection(sock=there, limit=BUFFER_BYTES)
        except OSError:
            writer.close()
            return
        for source, drain in ((reader, far_writer), (far_reader, writer)):
            self._tasks.append(asyncio.ensure_future(self._carry(source, drain)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)
        try:
            with contextlib.suppress(OSError):
                while True:
                    data = await reader.read(CHUNK_BYTES)
                    if not data:
                        break
                    if self.rate_bytes_per_s is not None:
                        await asyncio.sleep(len(data) / self.rate_bytes_per_s)
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()
