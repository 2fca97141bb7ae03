"""Keeping the executor warm: a segment stands back for a moment when a more urgent tensor is about to arrive.

Between a CTC and its tensor the executor would otherwise start whatever waits, and the urgent work would find it busy
for the rest of a segment. So a segment is not started if a tensor of a higher class that was promised room is expected
within ``hold_share`` of the segment's seconds: the executor idles until it is here. The idle time is bounded twice: by
that share, and by ``LATE_SHARE`` beyond the expected instant, after which nobody waits for that tensor any more.

The expected instant is the grant, and what the work's segment on its present device still takes (as its RTC said), and
the tensor's seconds on the link as it is calibrated.
"""

from pamdi.core.context import Context
from pamdi.core.holdings import Held
from pamdi.core.peers import Peers
from pamdi.core.room import Reservation, Room
from pamdi.core.segment import Segment
from pamdi.core.slots import Slots

LATE_SHARE = 0.1  # of the segment's seconds
TICK_S = 1e-6  # less than this is not waited for


class HoldingBack:
    def __init__(self, context: Context, room: Room, slots: Slots, peers: Peers) -> None:
        self._context = context
        self._room = room
        self._slots = slots
        self._peers = peers

    def holds(self, held: Held, segment: Segment) -> bool:
        share = self._context.policy.hold_share
        if not share:
            return False
        now, seconds = self._context.now, self._slots.seconds(segment)
        for entry in self._room.promised():
            if entry.rtc.urgency > held.klass:
                wait_s = self._expected_at(entry) - now
                if TICK_S - LATE_SHARE * seconds < wait_s <= share * seconds:
                    self._context.timers.set(now + wait_s + LATE_SHARE * seconds, self._go_on)
                    self._context.note("segments_held_back")
                    return True
        return False

    def _expected_at(self, entry: Reservation) -> float:
        return entry.since + entry.rtc.ready_in_s + self._peers.transfer_s(entry.peer, entry.rtc.nbytes)

    def _go_on(self, _: None) -> None:
        """Only a reason to wake: the executor looks for its next segment after every event."""
