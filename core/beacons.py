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
    """``wake_at``: when to look again if nothing happens before. It moves with every beacon, so it is no moment among
    the ``timers``."""

    def __init__(self, context: Context, slots: Slots, peers: Peers, room: Room) -> None:
        self._context = context
        self._slots = slots
        self._peers = peers
        self._room = room
        self._told: Optional[Beacon] = None
        self._told_at = self._may_tell_at = self._due = float("-inf")  # ``_due``: when we tell in any case
        self._told_here = -1
        self._told_layout = -1
        self._published_at = float("-inf")
        self.wake_at = float("inf")

    def tell(self, peer: str) -> None:
        """A link has just come up: everything, at once."""
        self._context.emit(Send(peer, self._beacon()))

    def drained(self) -> None:
        """Whether we drain has changed: worth telling at once."""
        self._told_layout = -1

    def tell_if_changed(self) -> None:
        now, here, layout = self._context.now, self._context.here, self._slots.layout
        if now >= self._due:
            self._tell_all(self._beacon())
        elif self._told_here == here and self._told_layout == layout:
            return
        elif now < self._may_tell_at:
            self.wake_at = min(self._may_tell_at, self._due)
        else:
            beacon = self._beacon()
            if self._told_layout != layout or self._differs(beacon.backlog):
                self._tell_all(beacon)
            else:
                self._told_here, self.wake_at = here, self._due

    def _tell_all(self, beacon: Beacon) -> None:
        now, limits = self._context.now, self._context.limits
        self._told, self._told_at = beacon, now
        self._told_here, self._told_layout = self._context.here, self._slots.layout
        self._context.out.extend([Send(peer, beacon) for peer in self._peers.linked()])
        if now >= self._published_at + limits.beacon_max_s:
            self._published_at = now
            self._context.emit(PublishBeacon(beacon))
        self._may_tell_at, self._due = now + limits.beacon_min_s, now + limits.beacon_max_s
        self.wake_at = self._due

    def _beacon(self) -> Beacon:
        return Beacon(self._context.device, self._slots.ready(), self._room.backlog(), self._context.draining)

    def _differs(self, present: Backlog) -> bool:
        """Against what a listener believes by now: reported backlogs shrink as time goes by."""
        told = self._told.backlog if self._told is not None else Backlog()
        elapsed = self._context.now - self._told_at
        running_s = max(0.0, told.running_s - elapsed)
        if abs(running_s - present.running_s) > self._context.limits.beacon_change_s:
            return True
        for klass in {entry.urgency for entry in told.classes + present.classes}:
            believed_s = max(0.0, told.ahead_of(klass) - elapsed)
            if abs(believed_s - present.ahead_of(klass)) > self._context.limits.beacon_change_s:
                return True
        return False
