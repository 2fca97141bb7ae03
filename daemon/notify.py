"""systemd's notification protocol: one datagram per message to the socket that NOTIFY_SOCKET names."""

import os
import socket
from typing import Mapping, Optional


class Notifier:
    """Says READY, STATUS, WATCHDOG and STOPPING to systemd; does nothing where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watchdog_us = environment.get("WATCHDOG_USEC", "")
        self.watchdog_s: Optional[float] = int(watchdog_us) / 1e6 if watchdog_us.isdigit() else None
        self._status = ""

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, sentence: str) -> None:
        if sentence != self._status:
            self._status = sentence
            self._send(f"STATUS={sentence}")

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto(message.encode(), self._address)
            except OSError:
                return  # a manager that does not listen must not take the service down
