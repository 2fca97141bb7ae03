"""One device on a stage: the test plays its neighbours, its engines and its clock."""

from typing import Any, Dict, List, Optional, Sequence, Tuple, Type

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.allocation import DeviceAllocation, ModelSpec, Neighbour, Resident, SourceSpec
from pamdi.core.device import Device
from pamdi.core.limits import Limits
from pamdi.core.work import Key, Work

UNIT_S = 0.025
NBYTES = 1000


def key(id: str, boundary: int = 0, attempt: int = 0, source: str = "yard") -> Key:
    return Key(source, id, attempt, 0, boundary)


class Lone:
    """``d0`` by default, linked to ``d1`` and ``d2``, its engines loaded at once. ``gate`` is ten times as urgent as
    ``yard``; both have their head here unless ``head`` says otherwise."""

    def __init__(
        self,
        units: Sequence[int] = (0, 1, 2, 3),
        limits: Optional[Limits] = None,
        head: str = "d0",
        restored: Optional[ev.Restored] = None,
        sources: Sequence[SourceSpec] = (),
        batch_seconds: Tuple[Tuple[int, float], ...] = (),
    ) -> None:
        self.device = Device("d0", limits)
        self.now = 0.0
        self.said: List[ins.AnyInstruction] = []
        self.epoch = 0
        self.batch_seconds = batch_seconds
        self.sources = tuple(sources) or (
            SourceSpec("gate", "net", head, gamma=10.0, gamma_max=20.0),
            SourceSpec("yard", "net", head),
        )
        if restored is not None:
            self.feed(restored)
        self.allocate(units)
        for peer in ("d1", "d2"):
            self.feed(ev.LinkUp(peer, 1))
        self.said.clear()

    def allocate(self, units: Sequence[int], digest: str = "sha", load: bool = True) -> List[ins.AnyInstruction]:
        self.epoch += 1
        said = self.feed(
            ev.AllocationReceived(
                DeviceAllocation(
                    self.epoch,
                    segments=tuple(Resident("net", u, u + 1, digest, UNIT_S, 1, self.batch_seconds) for u in units),
                    sources=self.sources,
                    models=(ModelSpec("net", (NBYTES,) * 4 + (40,)),),
                    neighbours=tuple(Neighbour(peer, "", 0, 1e6, 0.001) for peer in ("d1", "d2")),
                )
            )
        )
        for i in said if load else []:
            if isinstance(i, ins.Load):
                self.feed(ev.EngineLoaded(i.segment, max((b for b, _ in self.batch_seconds), default=1)))
        return said

    def feed(self, event: ev.AnyEvent) -> List[ins.AnyInstruction]:
        said = self.device.handle(event, self.now)
        self.said += said
        return said

    def later(self, seconds: float) -> List[ins.AnyInstruction]:
        """Let time pass, waking the device whenever it wants to be."""
        until = self.now + seconds
        said: List[ins.AnyInstruction] = []
        while True:
            wake = self.device.wake_at()
            if wake is None or wake > until:
                self.now = until
                return said
            self.now = max(self.now, wake)
            said += self.feed(ev.Woken())

    def receive(
        self, peer: str, message: ms.AnyMessage, payload: Any = "tensor", transit_s: float = 0.0
    ) -> List[ins.AnyInstruction]:
        return self.feed(ev.Received(peer, message, payload, NBYTES, transit_s))

    def offers(self, peer: str, *units: int, seconds: float = UNIT_S / 100) -> List[ins.AnyInstruction]:
        """``peer`` says that it can run these units, faster than we can."""
        return self.receive(peer, ms.Beacon(peer, tuple(ms.ReadySegment("net", u, u + 1, seconds) for u in units)))

    def submit(self, id: str, source: str = "yard", **more: Any) -> List[ins.AnyInstruction]:
        said = self.feed(ev.Submitted(key(id, source=source).work, f"digest-{id}", "input", NBYTES, **more))
        if any(isinstance(i, ins.JournalOpen) for i in said):
            said += self.feed(ev.JournalWritten(key(id, source=source).work, False))
        return said

    def infer(self, compute_s: float = UNIT_S) -> List[ins.AnyInstruction]:
        """The segment in the executor runs to its end."""
        running = self.device.placing.compute.running
        assert running is not None
        self.now += compute_s
        return self.feed(ev.Inferred(running.key, "tensor", NBYTES, compute_s))

    def place(self, of: Key) -> str:
        held = self.device.holdings.get(of)
        return held.place if held is not None else "nowhere"

    @property
    def running(self) -> Optional[Key]:
        held = self.device.placing.compute.running
        return held.key if held is not None else None

    @property
    def counters(self) -> Dict[str, int]:
        counts: Dict[str, int] = {}
        for i in self.said:
            if isinstance(i, ins.Note):
                counts[i.counter] = counts.get(i.counter, 0) + 1
        return counts


def tensor(of: Key, urgency: float = 1.0, head: str = "d1", **more: Any) -> ms.Tensor:
    return ms.Tensor(Work(of, "net", head, urgency, **{"age_s": 0.0, **more}))


def rtc(of: Key, urgency: float = 1.0, **more: Any) -> ms.Rtc:
    return ms.Rtc(of, "net", urgency, NBYTES, UNIT_S, **more)


def sent(said: Sequence[ins.AnyInstruction], *kinds: Type[Any]) -> List[Tuple[str, ms.AnyMessage]]:
    """Who was told what; beacons and greetings are left out unless asked for."""
    wanted = kinds or tuple(k for k in ms.AnyMessage.__args__ if k not in (ms.Beacon, ms.Holding))  # type: ignore[attr-defined]
    return [(i.peer, i.message) for i in said if isinstance(i, ins.Send) and isinstance(i.message, wanted)]


def told(said: Sequence[ins.AnyInstruction], *kinds: Type[Any]) -> List[str]:
    """The same in words: ``d1 Taken``."""
    return [f"{peer} {type(message).__name__}" for peer, message in sent(said, *kinds)]


def results(said: Sequence[ins.AnyInstruction]) -> List[str]:
    return [f"{i.status} {i.reason}".rstrip() for i in said if isinstance(i, ins.PublishResult)]
