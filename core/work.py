"""A work: one input of a source on its way to one answer, and the key under which its hand-overs are known.

Clocks do not travel: a work that crosses a link carries its *age* and its *time left*, and the receiver re-bases
both on its own clock. Locally they become ``born`` and ``due``, instants of the monotonic clock that the caller of
the core passes as ``now``.
"""

from typing import Optional, Tuple

import msgspec


class WorkId(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """A work, whatever its attempt or place: the client chose ``id``, unique within ``source``."""

    source: str
    id: str


class Key(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """One hand-over of one work. A higher ``attempt`` erases lower ones; ``step`` counts passes through the model
    (tokens of a generation, 0 today); at ``boundary`` u the work carries the tensors that enter unit u."""

    source: str
    id: str
    attempt: int
    step: int
    boundary: int

    @property
    def work(self) -> WorkId:
        return WorkId(self.source, self.id)

    def at(self, boundary: int) -> "Key":
        """The same work, at another boundary."""
        return Key(self.source, self.id, self.attempt, self.step, boundary)


class Visit(msgspec.Struct, frozen=True, gc=False):
    """What one device did for a work: units [first, stop), and where the seconds went.

    ``queue_s``: from arrival (or the end of the segment before) to the start; ``compute_s``: the segment itself;
    ``transfer_s``: from the sender's instruction to send until the tensor was whole here (0 when it stayed).
    ``at_s``: the work's age when the segment started, so that a trace can be drawn with no common clock.
    """

    first: int
    stop: int
    device: str
    queue_s: float
    compute_s: float
    transfer_s: float
    at_s: float = 0.0


class Work(msgspec.Struct, frozen=True, gc=False):
    """The header that travels with a work's tensors.

    ``urgency`` is gamma * alpha, the only thing that orders works; ``head`` is the device that admitted the work
    and gets its answer; ``age_s`` and ``left_s`` (None: no deadline) are true at the instant of sending.
    ``resent`` counts the devices that were lost while they held it: an input that kills devices must not kill all.
    """

    key: Key
    model: str
    head: str
    urgency: float
    age_s: float
    left_s: Optional[float] = None
    age_s_max: Optional[float] = None
    path: Tuple[Visit, ...] = ()
    resent: int = 0
