"""By how much tensors come later than their links, as they are calibrated, would have it.

A promise of room, and the patience with a tensor of which nothing is heard, must outlast the tensor's way. What a link
can do alone is known. What else is on the air is not: several neighbours share a radio, or a link is worse than it was.
So a device watches how late tensors come, to it and from it, and waits for so much longer. It is one number for all
neighbours: a device has one radio, or one cable, whoever is at the other end.

To wait too long costs little, since a link that goes down voids every promise at once. To wait too briefly sends
megabytes twice, over a medium that is late because it is full. So a lag is believed at once and forgotten a tenth at a
time, and a tensor of which nothing at all was heard doubles it, as in TCP. ``lag_s_max`` bounds it.
"""

from pamdi.core.limits import Limits

KEPT_SHARE = 0.9  # of a lag, when the next tensor comes sooner


class Lag:
    """``seconds``: what may be added to a calibrated transfer."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.seconds = 0.0

    def seen(self, late_s: float) -> None:
        """A tensor was so much later than calibrated (negative: earlier)."""
        self.seconds = max(0.0, min(late_s, self._limits.lag_s_max), KEPT_SHARE * self.seconds)

    def overdue(self) -> None:
        """Nothing was heard of a tensor in all the time it was given."""
        self.seconds = min(max(self._limits.resend_s, 2 * self.seconds), self._limits.lag_s_max)
