"""What can happen to a device, as values. The daemon makes them from sockets and threads, a simulated world from a
heap; the core cannot tell which. ``payload`` is opaque: the core moves it and counts ``nbytes``."""

from typing import Any, Optional, Tuple, Union

import msgspec

from pamdi.core.allocation import DeviceAllocation
from pamdi.core.messages import AnyMessage
from pamdi.core.segment import Segment
from pamdi.core.work import Key, Visit, WorkId


class Event(msgspec.Struct, frozen=True, gc=False):
    """Base of all events."""


class Submitted(Event, frozen=True):
    """A client submitted a work to a source of ours. ``digest`` identifies the input."""

    work: WorkId
    digest: str
    payload: Any
    nbytes: int
    gamma: Optional[float] = None
    deadline_s: Optional[float] = None


class CancelAsked(Event, frozen=True):
    work: WorkId


class JournalWritten(Event, frozen=True):
    """The record of this work (``final``: its last one) is as durable as its source asked."""

    work: WorkId
    final: bool


class JournalRefused(Event, frozen=True):
    work: WorkId
    final: bool
    detail: str


class ResultDelivered(Event, frozen=True):
    """The broker has acknowledged the final result of this work."""

    work: WorkId


class OpenRecord(msgspec.Struct, frozen=True):
    """An admitted work that the journal still knows after a restart; ``age_s`` and ``left_s`` as of the restart."""

    work: WorkId
    digest: str
    payload: Any
    nbytes: int
    attempt: int
    age_s: float
    gamma: Optional[float] = None
    left_s: Optional[float] = None


class FinalRecord(msgspec.Struct, frozen=True):
    """A finished work that the journal still knows after a restart."""

    work: WorkId
    digest: str
    status: str
    reason: str
    detail: str
    latency_s: float
    path: Tuple[Visit, ...]
    payload: Any
    nbytes: int
    delivered: bool
    age_s: float


class Restored(Event, frozen=True):
    """What the journal held when this life of the device began. Comes before anything else."""

    open: Tuple[OpenRecord, ...] = ()
    final: Tuple[FinalRecord, ...] = ()


class Received(Event, frozen=True):
    """A message from a peer. ``transit_s``: its estimated time on the way, queueing in the link included."""

    peer: str
    message: AnyMessage
    payload: Any = None
    nbytes: int = 0
    transit_s: float = 0.0


class LinkUp(Event, frozen=True):
    """A link to ``peer`` is open; ``instance`` names the peer's life."""

    peer: str
    instance: int


class LinkDown(Event, frozen=True):
    peer: str


class PeerState(Event, frozen=True):
    """The peer's retained state topic: online, offline (its will) or stopped."""

    peer: str
    state: str


class EngineLoaded(Event, frozen=True):
    """``batch_max``: how many single inputs its engine was built to take at once."""

    segment: Segment
    batch_max: int = 1


class EngineFailed(Event, frozen=True):
    segment: Segment
    reason: str


class EngineUnloaded(Event, frozen=True):
    segment: Segment


class Inferred(Event, frozen=True):
    """A segment has run. ``compute_s`` is its wall time in the executor."""

    key: Key
    payload: Any
    nbytes: int
    compute_s: float


class InferenceFailed(Event, frozen=True):
    """A segment could not run on this input (``detail``); the engine itself still stands."""

    key: Key
    detail: str


class Outcome(msgspec.Struct, frozen=True):
    """One work's end within a batch: its outputs, or ``detail``: why it has none."""

    key: Key
    payload: Any = None
    nbytes: int = 0
    detail: str = ""


class InferredTogether(Event, frozen=True):
    """A batch has run: every work's outcome, in order. ``compute_s`` is the wall time of the whole."""

    outcomes: Tuple[Outcome, ...]
    compute_s: float


class AllocationReceived(Event, frozen=True):
    allocation: DeviceAllocation


class DrainAsked(Event, frozen=True):
    """Hand on what is queued and take nothing new (``on`` False: be useful again)."""

    on: bool = True


class StopAsked(Event, frozen=True):
    """SIGTERM: drain, then say Stopped. What is not done within ``within_s`` is left to the journal."""

    within_s: float


class Woken(Event, frozen=True):
    """``wake_at`` has come."""


AnyEvent = Union[
    Submitted, CancelAsked, JournalWritten, JournalRefused, ResultDelivered, Restored, Received, LinkUp, LinkDown,
    PeerState, EngineLoaded, EngineFailed, EngineUnloaded, Inferred, InferenceFailed, InferredTogether,
    AllocationReceived, DrainAsked, StopAsked, Woken,
]  # fmt: skip
