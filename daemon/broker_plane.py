"""Tensors over the broker (``data_plane = "mqtt"``), where devices cannot dial each other: slower, never the default.

A carrier for tunnels: an envelope is one MQTT message on the target's ``frames`` topic. Urgent works and all small
messages have a topic and, at both ends, a connection of their own, so that they do not wait behind normal tensors
anywhere but in the broker's own socket. The time in the broker is not measured: deadlines do not count it.

A broker that goes takes with it what it had acknowledged, and what comes while we are away is not kept for us: after
every connect all tunnels over it begin anew.
"""

from typing import Any, Callable, Tuple

from pamdi.client.mqtt import Connection
from pamdi.core.errors import BadInput
from pamdi.core.topics import Topics
from pamdi.daemon.envelope import Envelope, pack, unpack
from pamdi.daemon.tunnel import Tunnels

URGENT, NORMAL = "frames/urgent", "frames/normal"


class BrokerPlane:
    """``is_urgent(urgency)``: above the lowest class."""

    def __init__(
        self, device: str, topics: Topics, normal: Connection, urgent: Connection, tunnels: Tunnels,
        is_urgent: Callable[[float], bool],
    ) -> None:  # fmt: skip
        self._device, self._topics, self._tunnels, self._is_urgent = device, topics, tunnels, is_urgent
        self._lanes = {URGENT: urgent, NORMAL: normal}
        self._listening = False
        self.unreadable = 0

    def listen(self) -> None:
        """Hear what others send here; once is enough."""
        if not self._listening:
            self._listening = True
            for leaf, connection in self._lanes.items():
                connection.subscribe(self._topics.device(self._device, leaf))

    def connected(self) -> None:
        """One of the lanes has connected (again)."""
        self._tunnels.lost_with(self.carry, "the broker was away")

    def carry(self, envelope: Envelope, body: Tuple[Any, ...], urgency: float) -> bool:
        leaf = URGENT if self._is_urgent(urgency) else NORMAL
        lane = self._lanes[leaf]
        if not lane.connected.is_set():
            return False  # what waited for the broker would be of an earlier session
        return lane.publish(
            self._topics.device(envelope.target, leaf), pack(envelope, body), 1 if envelope.header else 0
        )

    def received(self, payload: bytes) -> None:
        """A message on one of our ``frames`` topics."""
        try:
            envelope, body = unpack(payload)
        except BadInput:
            self.unreadable += 1
            return
        if envelope.way == (self._device,):
            self._tunnels.received(envelope, body, 0.0)
