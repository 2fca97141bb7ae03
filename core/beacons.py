"""What neighbours hear of this device without asking: on change, not more often than ``beacon_min_s``, not less often
than ``beacon_max_s``. People and the controller hear the same over MQTT, at most once in ``beacon_max_s``."""

from typing import Optional

from pamdi.core.context import Context
from pamdi.core.instructions import PublishBeacon, Send
from pamdi.core.messages import Backlog, Beacon
from pamdi.core.peers import Peers
from pamdi.core.room import Room
from pamdi.core.slots import Slots


class Beacons:
    def __init__(self, context: Context, slots: Slots, peers: Peers, room: Room) -> None:
        self._context = context
        self._slots = slots
        self._peers = peers
        self._room = room
        self._told: Optional[Beacon] = None
        self._told_at = float("-inf")
        self._published_at = float("-inf")
        self._armed_for = float("-inf")

    def tell(self, peer: str) -> None:
        """A link has just come up: everything, at once."""
        self._context.emit(Send(peer, self._beacon()))

    def tell_if_changed(self) -> None:
        now, limits = self._context.now, self._context.limits
        beacon = self._beacon()
        if self._worth_telling(beacon) or now >= self._told_at + limits.beacon_max_s:
            if now >= self._told_at + limits.beacon_min_s:
                self._tell_all(beacon)
            else:
                self._wake(self._told_at + limits.beacon_min_s)
        self._wake(self._told_at + limits.beacon_max_s)

    def _tell_all(self, beacon: Beacon) -> None:
        now = self._context.now
        self._told, self._told_at = beacon, now
        for peer in self._peers.linked():
            self._context.emit(Send(peer, beacon))
        if now >= self._published_at + self._context.limits.beacon_max_s:
            self._published_at = now
            self._context.emit(PublishBeacon(beacon))

    def _beacon(self) -> Beacon:
        return Beacon(self._context.device, self._slots.ready(), self._room.backlog(), self._context.draining)

    def _worth_telling(self, beacon: Beacon) -> bool:
        told = self._told
        if told is None or told.draining != beacon.draining:
            return True
        if [(s.model, s.first, s.stop) for s in told.ready] != [(s.model, s.first, s.stop) for s in beacon.ready]:
            return True
        return self._differs(told.backlog, beacon.backlog)

    def _differs(self, told: Backlog, present: Backlog) -> bool:
        """Against what a listener believes by now: reported backlogs shrink as time goes by."""
        elapsed = self._context.now - self._told_at
        classes = {entry.urgency for entry in told.classes + present.classes} | {float("inf")}
        believed = (max(0.0, told.ahead_of(klass) - elapsed) - present.ahead_of(klass) for klass in classes)
        return any(abs(error) > self._context.limits.beacon_change_s for error in believed)

    def _wake(self, at: float) -> None:
        if at > self._context.now and (self._armed_for <= self._context.now or at < self._armed_for):
            self._armed_for = at
            self._context.timers.set(at, lambda _: None)
