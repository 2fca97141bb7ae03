"""systemd's notification protocol: one datagram per message to the socket that NOTIFY_SOCKET names.

READY when able to work, STATUS with a sentence for ``systemctl status``, WATCHDOG while work progresses, STOPPING while
draining. The name of the socket is a path, or one in the abstract name space, written with an @.
"""

import contextlib
import os
import socket
from typing import Mapping, Optional


class Notifier:
    """Says READY, STATUS, WATCHDOG and STOPPING to systemd; does nothing where there is none.

    ``watchdog_s``: systemd restarts us after so long without :meth:`watchdog`; None: it does not watch us.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        # For life: a process that is out of descriptors must still be able to say that it lives.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        self.watchdog_s = _watchdog_s(environment)
        self._status = ""

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, sentence: str) -> None:
        """Told once until it changes. A message is lines, so a line break in the sentence becomes a space."""
        if sentence != self._status:
            self._status = sentence
            self._send("STATUS=" + " ".join(sentence.splitlines()))

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def close(self) -> None:
        """Nothing is said after this."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        """A manager that does not listen must neither stop the service nor make it wait."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(message.encode(), socket.MSG_DONTWAIT, self._address)


def _watchdog_s(environment: Mapping[str, str]) -> Optional[float]:
    """WATCHDOG_PID names whom the watchdog is for: a child that inherits the environment is not meant."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    interval_us = environment.get("WATCHDOG_USEC", "")
    return int(interval_us) / 1e6 if interval_us.isdigit() and int(interval_us) > 0 else None
