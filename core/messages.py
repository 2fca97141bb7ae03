"""What devices say to each other on their direct links: typed, frozen, tagged, tolerant of unknown fields.

A tensor does not ride in a struct: :class:`Tensor` and :class:`Answer` describe it, and the raw buffer follows. The
core leaves ``specs`` empty, since it never looks inside a payload; who sends it fills them in.
The words are the paper's where it has one (RTC, CTC); ``docs/protocol-messages.md`` is generated from this file.

Every request is answered, and a duplicate is answered with what is known of it, never with silence:

    Rtc      -> Ctc | Refusal            (a Ctc may later be taken back: Revoked)
    Tensor   -> Taken | Refusal | PassedOn | Finished
    Answer   -> Finished
    Where    -> Here
"""

from typing import List, Optional, Tuple, Union

import msgspec

from pamdi.core.tensors import TensorSpec
from pamdi.core.work import Key, Work, WorkId

VERSION = 1


class ReadySegment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A segment that a device can run now, and the seconds it takes there, alone."""

    model: str
    first: int
    stop: int
    seconds: float


class ClassBacklog(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Seconds of work of exactly this urgency that are queued or promised on a device."""

    urgency: float
    seconds: float


class Backlog(msgspec.Struct, frozen=True, gc=False):
    """What waits on a device: the rest of the running segment, and the queue by class."""

    running_s: float = 0.0
    classes: Tuple[ClassBacklog, ...] = ()

    def ahead_of(self, urgency: float) -> float:
        """Seconds that a newcomer of ``urgency`` waits: what has started, and every class at or above its own."""
        queued_s = 0.0
        for entry in self.classes:
            if entry.urgency >= urgency:
                queued_s += entry.seconds
        return self.running_s + queued_s

    def above(self, urgency: float) -> float:
        """Seconds that a work of ``urgency`` which goes on where it is waits: only more urgent classes."""
        return sum(entry.seconds for entry in self.classes if entry.urgency > urgency)


class Message(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Base of everything that crosses a link; the tag is the class's name. ``gc=False``, here and in what messages are
    made of: plain values hold no cycles, so Python's collector need not walk them."""


class Beacon(Message, frozen=True, tag=True):
    """Who I am now: what I can run and what waits here. Sent on change and at least every ``beacon_s``."""

    device: str
    ready: Tuple[ReadySegment, ...] = ()
    backlog: Backlog = Backlog()
    draining: bool = False


class Rtc(Message, frozen=True, tag=True):
    """Request to compute: may I hand you this work? Sent early, while the segment before still runs."""

    key: Key
    model: str
    urgency: float
    nbytes: int
    expected_s: float
    age_s: float = 0.0
    left_s: Optional[float] = None
    ready_in_s: float = 0.0
    number: int = 0


class Ctc(Message, frozen=True, tag=True):
    """Clear to compute: room is reserved for ``for_s`` seconds on my clock. ``number`` is the request's, so that a
    copy that is late clears nothing that was asked since (0: of a peer that does not count)."""

    key: Key
    for_s: float
    backlog: Backlog = Backlog()
    number: int = 0


class Refusal(Message, frozen=True, tag=True):
    """Not here: ``why`` is busy, not_ready, draining, too_large or malformed. The sender of the request (or of the
    tensor, when it comes without a promise and finds no room) has kept the work, and asks elsewhere."""

    key: Key
    why: str
    backlog: Backlog = Backlog()


class Revoked(Message, frozen=True, tag=True):
    """A reservation not yet used went to a more urgent work: ask elsewhere."""

    key: Key
    backlog: Backlog = Backlog()


class Withdrawn(Message, frozen=True, tag=True):
    """The asker no longer wants what it asked for or was granted."""

    key: Key


class Tensor(Message, frozen=True, tag=True):
    """A work at its boundary. The raw tensors follow, in the order of ``specs``."""

    work: Work
    specs: Tuple[TensorSpec, ...] = ()


class Taken(Message, frozen=True, tag=True):
    """The tensor arrived whole and is queued here. The sender keeps its copy until PassedOn or Finished."""

    key: Key


class PassedOn(Message, frozen=True, tag=True):
    """My own next hop has taken this work: the sender may forget its copy."""

    key: Key


class Answer(Message, frozen=True, tag=True):
    """The model's output on its way to the head, or (``error``) why no device can compute it."""

    work: Work
    specs: Tuple[TensorSpec, ...] = ()
    error: str = ""


class Finished(Message, frozen=True, tag=True):
    """These works have ended: whatever is kept of them may go."""

    works: Tuple[WorkId, ...]


class Where(Message, frozen=True, tag=True):
    """Does anybody hold this work, at this attempt or a later one?"""

    work: WorkId
    attempt: int


class Here(Message, frozen=True, tag=True):
    """The answer to Where."""

    work: WorkId
    attempt: int
    holding: bool


class Holding(Message, frozen=True, tag=True):
    """Said when a link comes up: the keys I hold that you may have handed me, so that you can resend the rest."""

    keys: Tuple[Key, ...]


AnyMessage = Union[
    Beacon, Rtc, Ctc, Refusal, Revoked, Withdrawn, Tensor, Taken, PassedOn, Answer, Finished, Where, Here, Holding
]  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: AnyMessage) -> bytes:
    return _encoder.encode(message)


def decode(data: bytes) -> AnyMessage:
    """Raises msgspec.DecodeError or msgspec.ValidationError for what is not one of ours."""
    message: AnyMessage = _decoder.decode(data)
    return message


def specs_of(message: AnyMessage) -> List[TensorSpec]:
    """The tensors whose raw bytes follow ``message`` on the wire."""
    return list(message.specs) if isinstance(message, (Tensor, Answer)) else []
