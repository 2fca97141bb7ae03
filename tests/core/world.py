"""A pretend world for the core: devices, links, a broker and clients on one heap, in virtual time, from one seed.

It does with a heap what the daemon does with sockets and threads: acts on instructions and feeds the outcome back as
events. Links may go down, and what is in the air on them is then lost; ``weather`` decides what else may happen to a
message: it can be lost alone, come twice, or be late. Devices crash (their journal survives, nothing else) and start
again with a new instance; an input can be poison, which kills who computes it; the broker can be away, which delays
submissions, results and wills. Every step checks the invariants (``invariants``).
"""

import heapq
import random
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Set, Tuple

import msgspec

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.allocation import DeviceAllocation, ModelSpec, Neighbour, Resident
from pamdi.core.device import Device
from pamdi.core.segment import Segment
from pamdi.core.work import Key, WorkId
from tests.core.invariants import Invariants
from tests.core.world_settings import Record, Settings


class World:
    def __init__(self, settings: Settings, seed: int = 0) -> None:
        self.settings = settings
        self.random = random.Random(seed)
        self.now = 0.0
        self._heap: List[Tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.devices: Dict[str, Device] = {}
        self.instances: Dict[str, int] = dict.fromkeys(settings.devices, 0)
        self.journals: Dict[str, Dict[WorkId, Any]] = {device: {} for device in settings.devices}
        self.links: Dict[Tuple[str, str], int] = {}
        self.link_free: Dict[Tuple[str, str], float] = {}
        self.carried: Dict[Tuple[WorkId, int], int] = {}  # how often each work's tensor at each boundary was sent
        self.records: Dict[WorkId, Record] = {}
        self.running: Dict[str, Optional[Tuple[Key, float]]] = {}
        self.epoch = 1
        self.computed: List[Tuple[str, Key]] = []
        self.batches: List[int] = []  # sizes
        self.counters: Dict[str, int] = {}
        self.cut: Set[FrozenSet[str]] = set()
        self.trace: List[str] = []
        self.poison: Dict[WorkId, int] = {}  # how many devices each has killed
        self.short_lived: Set[WorkId] = set()  # those with a deadline
        self.broker_back_at = 0.0
        self.invariants = Invariants(self)
        for device in settings.devices:
            self.start(device)

    # -- time ------------------------------------------------------------------------------------------------------

    def at(self, when: float, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (max(when, self.now), self._count, call))

    def after(self, delay: float, call: Callable[[], None]) -> None:
        self.at(self.now + delay, call)

    def run(self, until: float, events_max: int = 2_000_000) -> None:
        """Run until nothing is left before ``until``."""
        for _ in range(events_max):
            if not self._heap or self._heap[0][0] > until:
                self.now = until
                return
            self.now, _, call = heapq.heappop(self._heap)
            call()
        raise AssertionError(f"more than {events_max} events before {until}: the world does not come to rest")

    # -- devices ---------------------------------------------------------------------------------------------------

    def start(self, id: str) -> None:
        self.instances[id] += 1
        self.running[id] = None
        self.devices[id] = Device(id, self.settings.limits)
        self.feed(id, self._restored(id))
        self.feed(id, ev.AllocationReceived(self.allocation(id)))
        for other in self.settings.devices:
            if other != id and other in self.devices:
                self.connect(id, other)

    def _restored(self, id: str) -> ev.Restored:
        """The journal as the daemon reads it: ages and deadlines have gone on while nobody was there."""
        opened: List[ev.OpenRecord] = []
        final: List[ev.FinalRecord] = []
        for at, record in self.journals[id].values():
            age_s = record.age_s + self.now - at
            if isinstance(record, ev.OpenRecord):
                left_s = None if record.left_s is None else record.left_s - age_s
                opened.append(msgspec.structs.replace(record, age_s=age_s, left_s=left_s))
            else:
                final.append(msgspec.structs.replace(record, age_s=age_s))
        return ev.Restored(tuple(opened), tuple(final))

    def crash(self, id: str) -> None:
        """kill -9: everything but the journal is gone; links drop, the will is published."""
        if id not in self.devices:
            return
        del self.devices[id]
        self.instances[id] += 1  # what is in the air for the old life finds nobody
        for other in list(self.devices):
            self.disconnect(id, other)
        self._by_broker(lambda: self._will(id))

    def _will(self, id: str) -> None:
        """The broker publishes it when it notices, which may be after ``id`` has come back: it then contradicts."""
        for other in list(self.devices):
            if other != id:
                self.feed(other, ev.PeerState(id, "offline"))
        if id in self.devices:
            self._by_broker(lambda: self._say_online(id))

    def _say_online(self, id: str) -> None:
        for other in list(self.devices):
            if other != id and id in self.devices:
                self.feed(other, ev.PeerState(id, "online"))

    def connect(self, a: str, b: str) -> None:
        if frozenset((a, b)) in self.cut:
            return
        for x, y in ((a, b), (b, a)):
            self.links[x, y] = self.links.get((x, y), 0) + 1
            self.link_free[x, y] = self.now
        for x, y in ((a, b), (b, a)):
            self.feed(x, ev.LinkUp(y, self.instances[y]))
            self.feed(x, ev.PeerState(y, "online"))

    def disconnect(self, a: str, b: str) -> None:
        for x, y in ((a, b), (b, a)):
            self.links[x, y] = self.links.get((x, y), 0) + 1
            if x in self.devices:
                self.feed(x, ev.LinkDown(y))

    def partition(self, a: str, b: str) -> None:
        self.cut.add(frozenset((a, b)))
        if a in self.devices and b in self.devices:
            self.disconnect(a, b)

    def heal(self, a: str, b: str) -> None:
        self.cut.discard(frozenset((a, b)))
        if a in self.devices and b in self.devices:
            self.connect(a, b)

    def allocation(self, id: str) -> DeviceAllocation:
        s = self.settings
        return DeviceAllocation(
            epoch=self.epoch,
            policy=s.policy,
            segments=tuple(
                Resident("net", u, u + 1, f"sha{u}", s.unit_s, 1000, s.batch_seconds) for u in s.residents[id]
            ),
            sources=tuple(s.sources),
            models=(ModelSpec("net", (s.nbytes,) * s.units + (40,)),),
            neighbours=tuple(Neighbour(o, "", 0, s.rate, s.delay_s) for o in s.devices if o != id),
        )

    def broker_away(self, for_s: float) -> None:
        self.broker_back_at = max(self.broker_back_at, self.now + for_s)

    def _by_broker(self, call: Callable[[], None]) -> None:
        self.at(max(self.now, self.broker_back_at) + self.settings.mqtt_s, call)

    def reallocate(self, residents: Dict[str, List[int]]) -> None:
        self.epoch += 1
        self.settings.residents = residents
        for id in list(self.devices):
            self.feed(id, ev.AllocationReceived(self.allocation(id)))

    # -- clients ---------------------------------------------------------------------------------------------------

    def submit(self, source: str, id: str, gamma: Optional[float] = None, deadline_s: Optional[float] = None) -> None:
        """A client that keeps the work until its end: it submits again every second."""
        work = WorkId(source, id)
        record = self.records.setdefault(work, Record(self.now, source))
        head = next(s.device for s in self.settings.sources if s.id == source)
        if deadline_s is not None:
            self.short_lived.add(work)

        def once() -> None:
            if record.ended_at is not None:
                return
            event = ev.Submitted(work, f"digest-{id}", ("input", work, 0), self.settings.nbytes, gamma, deadline_s)
            self._by_broker(lambda: self.feed(head, event))
            self.after(1.0, once)

        once()

    def cancel(self, source: str, id: str) -> None:
        head = next(s.device for s in self.settings.sources if s.id == source)
        self._by_broker(lambda: self.feed(head, ev.CancelAsked(WorkId(source, id))))

    def _result(self, result: ins.PublishResult) -> None:
        record = self.records[result.work]
        if result.status == "admitted":
            record.admitted = True
        elif result.status in ("answered", "failed"):
            record.admitted = True
            record.ends.append((result.status, result.reason, result.payload))
            if record.ended_at is None:
                record.ended_at = self.now

    # -- instructions ----------------------------------------------------------------------------------------------

    def feed(self, id: str, event: ev.AnyEvent) -> None:
        device = self.devices.get(id)
        if device is None:
            return
        for instruction in device.handle(event, self.now):
            self._act(id, instruction)
        self.invariants.after_event(id)
        wake = device.wake_at()
        if wake is not None:
            instance = self.instances[id]
            self.at(wake, lambda: self._wake(id, instance))

    def _wake(self, id: str, instance: int) -> None:
        device = self.devices.get(id)
        if device is None or self.instances[id] != instance:
            return
        wake = device.wake_at()
        if wake is not None and wake <= self.now:
            self.feed(id, ev.Woken())

    def _act(self, id: str, i: ins.AnyInstruction) -> None:
        handler = getattr(self, "_do_" + type(i).__name__, None)
        if handler is not None:
            handler(id, i)

    def _later(self, id: str, delay: float, event: ev.AnyEvent) -> None:
        instance = self.instances[id]

        def deliver() -> None:
            if self.instances[id] == instance:
                self.feed(id, event)

        self.after(delay, deliver)

    def _do_Send(self, id: str, i: ins.Send) -> None:
        life = self.links.get((id, i.peer), 0)
        if i.peer not in self.devices or frozenset((id, i.peer)) in self.cut:
            return
        self.invariants.sent(id, i)
        message = ms.decode(ms.encode(i.message))
        nbytes = self.settings.nbytes if i.payload is not None else 0
        line = ("radio", "") if self.settings.shared else (id, i.peer)
        start = max(self.now, self.link_free.get(line, 0.0)) if nbytes else self.now
        arrive = start + nbytes / self.settings.rate + self.settings.delay_s
        if nbytes:
            self.link_free[line] = start + nbytes / self.settings.rate
            self.carried[i.payload[1:]] = self.carried.get(i.payload[1:], 0) + 1
        sent = self.now

        def deliver() -> None:
            if self.links.get((id, i.peer)) == life and i.peer in self.devices:
                kept = self.invariants.before_delivery(i.peer, message)
                self.feed(i.peer, ev.Received(id, message, i.payload, nbytes, self.now - sent))
                self.invariants.after_delivery(i.peer, message, kept)

        for late_s in self.settings.weather.copies(self.random, self.now):
            self.at(arrive + late_s, deliver)

    def _do_Infer(self, id: str, i: ins.Infer) -> None:
        assert self.running[id] is None, "two segments in the air"
        self.invariants.starts(id, i)
        kind, work, boundary = i.payload
        assert boundary == i.segment.first == i.key.boundary and work == i.key.work, "the payload is not the key's"
        self.running[id] = (i.key, i.urgency)
        self.computed.append((id, i.key))
        seconds = self.settings.unit_s * (i.segment.stop - i.segment.first) * self.random.uniform(0.98, 1.02)
        instance = self.instances[id]

        def done() -> None:
            if self.instances[id] == instance:
                if work in self.poison:
                    self._die_of(work, id)
                    return
                self.running[id] = None
                payload = ("tensor", work, i.segment.stop)
                self.feed(id, ev.Inferred(i.key, payload, self.settings.nbytes, seconds))

        self.after(seconds, done)

    def _do_InferTogether(self, id: str, i: ins.InferTogether) -> None:
        assert len({part.key for part in i.parts}) == len(i.parts) >= 2
        self.invariants.starts(id, i)
        for part in i.parts:
            _, work, boundary = part.payload
            assert boundary == i.segment.first == part.key.boundary and work == part.key.work
            self.computed.append((id, part.key))
        self.running[id] = (i.parts[0].key, i.urgency)
        self.batches.append(len(i.parts))
        seconds = next(s for batch, s in self.settings.batch_seconds if batch >= len(i.parts))
        instance = self.instances[id]

        def done() -> None:
            if self.instances[id] != instance:
                return
            for part in i.parts:
                if part.key.work in self.poison:
                    self._die_of(part.key.work, id)
                    return
            self.running[id] = None
            outcomes = [
                ev.Outcome(part.key, ("tensor", part.key.work, i.segment.stop), self.settings.nbytes)
                for part in i.parts
            ]
            self.feed(id, ev.InferredTogether(tuple(outcomes), seconds))

        self.after(seconds, done)

    def _die_of(self, work: WorkId, id: str) -> None:
        self.poison[work] += 1
        self.crash(id)
        self.after(0.5, lambda: None if id in self.devices else self.start(id))

    def _do_Load(self, id: str, i: ins.Load) -> None:
        batch_max = max((batch for batch, _ in self.settings.batch_seconds), default=1)
        self._later(id, self.random.uniform(0.0, 0.05), ev.EngineLoaded(i.segment, batch_max))

    def _do_Unload(self, id: str, i: ins.Unload) -> None:
        running = self.running[id]
        assert running is None or running[0].boundary != i.segment.first, "an engine in use was unloaded"
        self._later(id, 0.01, ev.EngineUnloaded(i.segment))

    def _do_JournalOpen(self, id: str, i: ins.JournalOpen) -> None:
        self.journals[id][i.work] = (self.now, ev.OpenRecord(
            i.work, i.digest, i.payload, self.settings.nbytes, 0, i.age_s, i.gamma, i.left_s
        ))  # fmt: skip
        self._later(id, 0.0005, ev.JournalWritten(i.work, False))

    def _do_JournalAttempt(self, id: str, i: ins.JournalAttempt) -> None:
        at, record = self.journals[id].get(i.work, (0.0, None))
        if isinstance(record, ev.OpenRecord):
            self.journals[id][i.work] = (at, msgspec.structs.replace(record, attempt=i.attempt))

    def _do_JournalFinal(self, id: str, i: ins.JournalFinal) -> None:
        self.journals[id][i.work] = (self.now, ev.FinalRecord(
            i.work, i.digest, i.status, i.reason, i.detail, i.latency_s, i.path, i.payload, 40, False, 0.0
        ))  # fmt: skip
        self._later(id, 0.0005, ev.JournalWritten(i.work, True))

    def _do_JournalForget(self, id: str, i: ins.JournalForget) -> None:
        self.journals[id].pop(i.work, None)

    def _do_PublishResult(self, id: str, i: ins.PublishResult) -> None:
        instance = self.instances[id]

        def arrive() -> None:
            if self.instances[id] != instance:
                return  # it waited for the broker in a process that is gone
            self._result(i)
            at, record = self.journals[id].get(i.work, (0.0, None))
            if i.acknowledge and isinstance(record, ev.FinalRecord):
                self.journals[id][i.work] = (at, msgspec.structs.replace(record, delivered=True))
                self.feed(id, ev.ResultDelivered(i.work))

        if self.broker_back_at > self.now or i.acknowledge:
            self._by_broker(arrive)
        else:
            self._result(i)

    def _do_Note(self, id: str, i: ins.Note) -> None:
        self.counters[i.counter] = self.counters.get(i.counter, 0) + 1
        if i.text:
            self.trace.append(f"{self.now:.4f} {id}: {i.text}")

    # -- the end -------------------------------------------------------------------------------------------------

    def check_ends(self) -> None:
        """Every id ends exactly once: all results that were ever published for it say the same."""
        for work, record in self.records.items():
            assert record.ends, f"{work} was submitted at {record.submitted_at:.3f} and has no end; {self.where(work)}"
            assert len(set(map(repr, record.ends))) == 1, f"{work} ended in several ways: {record.ends}"

    def where(self, work: WorkId) -> str:
        places = [
            f"{id}:{held.place}->{held.peer}@{held.key.boundary}/a{held.key.attempt}"
            for id, device in self.devices.items()
            for held in device.holdings.of(work)
        ]
        heads = [f"{id}:{a.state}" for id, d in self.devices.items() for a in [d.head.get(work)] if a]
        return f"held {places}, heads {heads}"

    def latencies(self, source: str) -> List[float]:
        return [
            record.ended_at - record.submitted_at
            for record in self.records.values()
            if record.source == source and record.ended_at is not None
        ]


def segment(first: int, stop: int) -> Segment:
    return Segment("net", first, stop)
