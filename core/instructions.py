"""What the core wants done, as values. Whoever runs the core acts on them in order and feeds the outcome back as
events. Nothing else leaves the core."""

from typing import Any, Optional, Tuple, Union

import msgspec

from pamdi.core.allocation import AllocationState, Neighbour
from pamdi.core.messages import AnyMessage, Beacon
from pamdi.core.segment import Segment
from pamdi.core.work import Key, Visit, WorkId


class Instruction(msgspec.Struct, frozen=True, gc=False):
    """Base of all instructions."""


class Send(Instruction, frozen=True):
    """To ``peer``'s link. ``urgency`` orders tensors among each other; messages without a payload go before all.
    A message to a peer whose link is down is dropped by the shell: the core hears LinkDown and acts on it."""

    peer: str
    message: AnyMessage
    payload: Any = None
    urgency: float = float("inf")


class Infer(Instruction, frozen=True):
    """Run ``segment`` on ``payload``; comes back as Inferred or InferenceFailed. At most one is in the air, or one
    InferTogether."""

    key: Key
    segment: Segment
    payload: Any
    urgency: float


class Part(msgspec.Struct, frozen=True):
    """One work of a batch."""

    key: Key
    payload: Any


class InferTogether(Instruction, frozen=True):
    """Run ``segment`` on these works as one batch; comes back as InferredTogether, whatever becomes of each."""

    segment: Segment
    parts: Tuple[Part, ...]
    urgency: float


class Load(Instruction, frozen=True):
    """Comes back as EngineLoaded or EngineFailed."""

    segment: Segment
    digest: str
    memory_bytes: int


class Unload(Instruction, frozen=True):
    """Comes back as EngineUnloaded."""

    segment: Segment


class JournalOpen(Instruction, frozen=True):
    """Keep this input; comes back as JournalWritten(final=False) or JournalRefused."""

    work: WorkId
    digest: str
    payload: Any
    age_s: float
    gamma: Optional[float]
    left_s: Optional[float]
    durable: bool


class JournalAttempt(Instruction, frozen=True):
    """This open work is at ``attempt`` now. Nobody waits for it."""

    work: WorkId
    attempt: int


class JournalFinal(Instruction, frozen=True):
    """Replace the input by its end; comes back as JournalWritten(final=True) or JournalRefused."""

    work: WorkId
    digest: str
    status: str
    reason: str
    detail: str
    latency_s: float
    path: Tuple[Visit, ...]
    payload: Any
    durable: bool


class JournalForget(Instruction, frozen=True):
    work: WorkId


class PublishResult(Instruction, frozen=True):
    """On the source's result topic, QoS 1. ``acknowledge``: say ResultDelivered when the broker has it.
    ``replayed``: times the head started it anew; ``retried``: devices that were lost while they held it."""

    work: WorkId
    status: str
    reason: str = ""
    detail: str = ""
    latency_s: Optional[float] = None
    path: Tuple[Visit, ...] = ()
    payload: Any = None
    retry_after_s: Optional[float] = None
    urgency: float = 1.0
    acknowledge: bool = False
    replayed: int = 0
    retried: int = 0


class PublishAllocation(Instruction, frozen=True):
    """Retained, on allocation/state."""

    state: AllocationState


class PublishBeacon(Instruction, frozen=True):
    """QoS 0, on the beacon topic. (Peers get the same by Send.)"""

    beacon: Beacon


class SetNeighbours(Instruction, frozen=True):
    """Keep links to exactly these."""

    neighbours: Tuple[Neighbour, ...]


class Note(Instruction, frozen=True):
    """One line for the log, and one more for ``counter``. ``text`` "" counts silently."""

    counter: str
    text: str = ""


class Stopped(Instruction, frozen=True):
    """Drained (or out of time): the process may end. ``left`` works stay in the journal."""

    left: int


AnyInstruction = Union[
    Send, Infer, InferTogether, Load, Unload, JournalOpen, JournalAttempt, JournalFinal, JournalForget, PublishResult,
    PublishAllocation, PublishBeacon, SetNeighbours, Note, Stopped,
]  # fmt: skip
