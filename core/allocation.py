"""What the controller wants of the fleet (a plan) and of one device (its allocation), as typed JSON documents.

``device/<id>/allocation/set`` carries a :class:`DeviceAllocation`; ``device/<id>/allocation/state`` answers with a
:class:`AllocationState`; ``device/<id>/info`` is a :class:`DeviceInfo`. Units: seconds, bytes, hertz.
"""

from typing import Dict, Optional, Tuple

import msgspec

from pamdi.core.segment import Segment
from pamdi.core.topics import valid_id

SMALL_FLEET_DEVICES_MAX = 64  # up to here every device is told everything, at every epoch


def _check_id(what: str, id: str) -> None:
    if not valid_id(id):
        raise ValueError(f"{what} {id!r} is not an id: letters, digits, _ . -, at most 64")


class SourceSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A source of works. ``gamma``: the paper's priority weight, larger is more urgent; ``alpha``: the accuracy term
    in (0, 1]; ``deadline_s`` and ``age_s_max`` (the starvation bound): None is none."""

    id: str
    model: str
    device: str
    gamma: float = 1.0
    alpha: float = 1.0
    rate_hz: float = 1.0
    deadline_s: Optional[float] = None
    age_s_max: Optional[float] = None
    gamma_max: Optional[float] = None
    queue_works_max: int = 1000
    attempts_max: int = 3
    replay_after_s: float = 5.0
    durability: str = "memory"

    def __post_init__(self) -> None:
        _check_id("source", self.id)
        _check_id(f"source {self.id}: device", self.device)
        if not self.gamma > 0 or not 0 < self.alpha <= 1:
            raise ValueError(f"source {self.id}: gamma must be positive and alpha in (0, 1]")
        if self.durability not in ("memory", "disk"):
            raise ValueError(f"source {self.id}: durability is memory or disk, not {self.durability!r}")

    def urgency(self, gamma: Optional[float] = None) -> float:
        """gamma * alpha; a client's own ``gamma`` is capped by ``gamma_max`` (default: the source's gamma)."""
        asked = self.gamma if gamma is None else min(gamma, self.gamma_max or self.gamma)
        return asked * self.alpha


class ModelSpec(msgspec.Struct, frozen=True):
    """What dispatch needs of a model: ``bytes[u]`` enters unit u for one input (``bytes[U]`` is the output), and the
    tensors at the model's two ends ("batch" is the first axis)."""

    id: str
    bytes: Tuple[int, ...]
    inputs: Tuple[Tuple[str, str, Tuple[int, ...]], ...] = ()

    def __post_init__(self) -> None:
        if len(self.bytes) < 2 or min(self.bytes) < 0:
            raise ValueError(f"model {self.id}: bytes needs one entry per unit and one for the output, none negative")

    @property
    def units(self) -> int:
        return len(self.bytes) - 1


class Resident(msgspec.Struct, frozen=True):
    """A segment that a device should hold: ``digest`` is the sha256 of its engine (or ONNX) file, ``seconds`` the
    calibrated time on this device, ``memory_bytes`` what it occupies. ``batch_seconds``: (batch, calibrated seconds)
    for batches above 1, where they are known."""

    model: str
    first: int
    stop: int
    digest: str = ""
    seconds: float = 0.0
    memory_bytes: int = 0
    batch_seconds: Tuple[Tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        Segment(self.model, self.first, self.stop)
        if any(batch < 2 or not 0 < seconds < float("inf") for batch, seconds in self.batch_seconds):
            raise ValueError(f"resident {self.segment}: batch_seconds needs batches from 2 and positive seconds")

    @property
    def segment(self) -> Segment:
        return Segment(self.model, self.first, self.stop)


class Neighbour(msgspec.Struct, frozen=True):
    """A device in reach: where it listens, and the link to it. ``via``: the devices on the way, when there is no direct
    link; rate and delay are then the whole way's. ``plane``: "link", or "mqtt" where only the broker reaches both.
    Host and port are what the device says of itself: they are tried, not judged."""

    id: str
    host: str
    port: int
    rate_bytes_per_s: float = 1e9
    delay_s: float = 0.0
    via: Tuple[str, ...] = ()
    plane: str = "link"

    def __post_init__(self) -> None:
        for id in (self.id, *self.via):
            _check_id("neighbour", id)
        if not (self.rate_bytes_per_s > 0 and 0 <= self.delay_s < float("inf")):
            raise ValueError(f"neighbour {self.id}: the rate must be positive, the delay not negative and finite")


class RouteVisit(msgspec.Struct, frozen=True):
    """Units [first, stop) on ``device``."""

    first: int
    stop: int
    device: str


class Route(msgspec.Struct, frozen=True):
    """One way of a source's works through the fleet: ``fraction`` of them take it."""

    fraction: float
    latency_s: float
    visits: Tuple[RouteVisit, ...]


class Plan(msgspec.Struct, frozen=True):
    """plan.json: what a solver decided, for the whole fleet."""

    solver: str
    objective: float
    bound: Optional[float]
    routes: Dict[str, Tuple[Route, ...]]
    residents: Dict[str, Tuple[Resident, ...]]


class DeviceAllocation(msgspec.Struct, frozen=True):
    """One device's part of an epoch. ``sources`` and ``models`` list all that may pass through it. In a fleet that is
    not small ``routes`` are those that pass it, unless the policy binds works to them, and a device whose part stays
    as it is keeps it, at the epoch in which it was said."""

    epoch: int
    policy: str = "pa-mdi"
    segments: Tuple[Resident, ...] = ()
    sources: Tuple[SourceSpec, ...] = ()
    models: Tuple[ModelSpec, ...] = ()
    routes: Dict[str, Tuple[Route, ...]] = {}
    neighbours: Tuple[Neighbour, ...] = ()


class SlotState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A segment and its state: absent, loading, ready, draining or broken (with the reason)."""

    model: str
    first: int
    stop: int
    state: str
    reason: str = ""


class AllocationState(msgspec.Struct, frozen=True):
    """What a device really holds: the epoch it obeys, and every slot."""

    epoch: int
    segments: Tuple[SlotState, ...] = ()
    draining: bool = False


class DeviceInfo(msgspec.Struct, frozen=True):
    """What a device says of itself. ``models[model]["0:1"]`` is the digest of the engine it has for that segment.
    ``data_plane``: "link", or "mqtt" where others cannot dial it."""

    id: str
    type: str
    memory_bytes: int
    instance: int
    host: str
    port: int
    backend: str
    versions: Dict[str, str] = {}
    models: Dict[str, Dict[str, str]] = {}
    data_plane: str = "link"
