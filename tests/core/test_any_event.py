"""One device, and events that nobody should send: any event in any order must not raise, and must not break a promise.

Hypothesis plays the rest of the world, badly: clearances nobody asked for, words about works nobody knows, links that
come up twice, engines that report what they were never told to do, numbers that make no sense. The device's own
instructions (infer, load, journal) are answered too, late, out of order, twice or never. Then the world turns kind,
and everything that was admitted must come to exactly one end.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple, Union

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.allocation import DeviceAllocation, ModelSpec, Neighbour, Resident, Route, RouteVisit, SourceSpec
from pamdi.core.device import Device
from pamdi.core.limits import Limits
from pamdi.core.segment import Segment
from pamdi.core.work import Key, Visit, Work, WorkId

UNITS = 3
LIMITS = Limits(queue_works_max=6, parked_max=3, backup_bytes_max=900, open_works_max=12, known_keys_max=30)
PEERS = st.sampled_from(["d1", "d2", "stranger"])
SOURCES = st.sampled_from(["gate", "yard"])
WORKS = st.builds(WorkId, st.sampled_from(["gate", "yard", "other"]), st.sampled_from(list("abcdef")))
NUMBERS = st.sampled_from([*[0.001, 1.0, 10.0, 0.5] * 8, 0.0, -1.0, 1e300, float("nan"), float("inf"), -float("inf")])
SMALL = st.sampled_from([*[0, 1, 2, 3] * 8, 7, -1, 10**12])
KEYS = st.builds(
    lambda work, attempt, step, boundary: Key(work.source, work.id, attempt, step, boundary),
    WORKS, st.sampled_from([*[0] * 12, 1, 2, -1, 10**12]), st.sampled_from([*[0] * 30, 1, -1]), SMALL,
)  # fmt: skip
MODELS = st.sampled_from(["net", "net", "unknown"])
BACKLOGS = st.builds(
    ms.Backlog, NUMBERS, st.lists(st.builds(ms.ClassBacklog, NUMBERS, NUMBERS), max_size=2).map(tuple)
)  # fmt: skip
HEADERS = st.builds(
    Work, KEYS, MODELS, st.sampled_from(["d0", "d1", "nobody"]), NUMBERS, NUMBERS, st.none() | NUMBERS,
    st.none() | NUMBERS, st.just((Visit(0, 1, "d9", 0.0, 0.0, 0.0),)), SMALL,
)  # fmt: skip
MESSAGES = st.one_of(
    st.builds(
        ms.Beacon, PEERS, st.lists(st.builds(ms.ReadySegment, MODELS, SMALL, SMALL, NUMBERS)).map(tuple), BACKLOGS
    ),
    st.builds(ms.Rtc, KEYS, MODELS, NUMBERS, SMALL, NUMBERS, NUMBERS, st.none() | NUMBERS, NUMBERS),
    st.builds(ms.Ctc, KEYS, NUMBERS, BACKLOGS),
    st.builds(ms.Refusal, KEYS, st.sampled_from(["busy", "whatever"]), BACKLOGS),
    st.builds(ms.Revoked, KEYS, BACKLOGS),
    st.builds(ms.Withdrawn, KEYS),
    st.builds(ms.Tensor, HEADERS),
    st.builds(ms.Taken, KEYS),
    st.builds(ms.PassedOn, KEYS),
    st.builds(ms.Answer, HEADERS, st.just(()), st.sampled_from(["", "", "no_route", "attempts", "nonsense"])),
    st.builds(ms.Finished, st.lists(WORKS.filter(lambda work: work.source == "other"), max_size=2).map(tuple)),
    st.builds(ms.Where, WORKS, SMALL),
    st.builds(ms.Here, WORKS, SMALL, st.booleans()),
    st.builds(ms.Holding, st.lists(KEYS, max_size=3).map(tuple)),
)
SEGMENTS = st.builds(Segment, MODELS, st.integers(0, 3), st.integers(4, 5)) | st.builds(
    lambda first: Segment("net", first, first + 1), st.integers(0, UNITS - 1)
)


class Edit(NamedTuple):
    """What somebody has changed in the configuration: who is whose head (None: the source is gone), how many units the
    model has, who is a neighbour, and which way works are bound to."""

    gate: Optional[str] = "d0"
    yard: Optional[str] = "d0"
    units: int = UNITS
    neighbours: Tuple[str, ...] = ("d1", "d2")
    way: Tuple[str, ...] = ()


HEADS = st.sampled_from(["d0", "d0", "d1", None])
EDITS = st.just(Edit()) | st.builds(
    Edit, HEADS, HEADS, st.sampled_from([UNITS, UNITS, UNITS + 1, 1]),
    st.sampled_from([("d1", "d2"), ("d1", "d2"), ("d2",), ()]),
    st.lists(st.sampled_from(["d0", "d1", "nobody"]), max_size=UNITS).map(tuple),
)  # fmt: skip


def allocation(
    epoch: int, units: List[int], digest: str = "sha", policy: str = "pa-mdi", edit: Edit = Edit()
) -> DeviceAllocation:
    sources = (
        SourceSpec("gate", "net", edit.gate, gamma=10.0, gamma_max=20.0) if edit.gate else None,
        SourceSpec("yard", "net", edit.yard, age_s_max=0.5, queue_works_max=4, deadline_s=30.0) if edit.yard else None,
        SourceSpec("other", "net", "d1"),
    )
    visits = tuple(RouteVisit(u, u + 1, device) for u, device in enumerate(edit.way))
    return DeviceAllocation(
        epoch=epoch,
        policy=policy,
        segments=tuple(Resident("net", u, u + 1, digest, 0.01, 1, ((3, 0.015),)) for u in units),
        sources=tuple(source for source in sources if source is not None),
        models=(ModelSpec("net", (100,) * edit.units + (40,)),),
        routes={"gate": (Route(1.0, 0.1, visits),)} if visits else {},
        neighbours=tuple(Neighbour(peer, "", 0, 1e6, 0.001) for peer in edit.neighbours),
    )


class AnyEvent(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.device = Device("d0", LIMITS)
        self.now = 0.0
        self.epoch = 0
        self.infer: Union[ins.Infer, ins.InferTogether, None] = None
        self.owed: List[ins.AnyInstruction] = []  # loads, unloads, journal records that have had no outcome yet
        self.granted: Set[Key] = set()
        self.admitted: Set[WorkId] = set()
        self.ends: Dict[WorkId, Set[str]] = {}

    def feed(self, event: ev.AnyEvent) -> None:
        for i in self.device.handle(event, self.now):
            if isinstance(i, (ins.Infer, ins.InferTogether)):
                assert self.infer is None, "two segments in the air"
                self.infer = i
            elif isinstance(i, (ins.Load, ins.Unload, ins.JournalOpen, ins.JournalFinal)):
                self.owed.append(i)
            elif isinstance(i, ins.PublishResult):
                self.published(i)
            elif isinstance(i, ins.Send) and isinstance(i.message, ms.Tensor):
                assert i.message.work.key in self.granted, f"{i.message.work.key} is sent without a grant"

    def published(self, i: ins.PublishResult) -> None:
        if i.status == "admitted":
            self.admitted.add(i.work)
        elif i.status in ("answered", "failed"):
            self.ends.setdefault(i.work, set()).add(f"{i.status}:{i.reason}:{i.payload}")

    def settle(self, i: ins.AnyInstruction, well: bool) -> None:
        self.owed.remove(i)
        if isinstance(i, ins.Load):
            self.feed(ev.EngineLoaded(i.segment, 3) if well else ev.EngineFailed(i.segment, "test"))
        elif isinstance(i, ins.Unload):
            self.feed(ev.EngineUnloaded(i.segment))
        elif isinstance(i, (ins.JournalOpen, ins.JournalFinal)):
            final = isinstance(i, ins.JournalFinal)
            self.feed(ev.JournalWritten(i.work, final) if well else ev.JournalRefused(i.work, final, "full"))

    # -- the world, as it should be ------------------------------------------------------------------------------

    @initialize(restored=st.booleans(), age_s=st.sampled_from([0.0, 10.0]), left_s=st.sampled_from([None, -1.0, 5.0]))
    def begins(self, restored: bool, age_s: float, left_s: Optional[float]) -> None:
        opened = ev.OpenRecord(WorkId("gate", "r"), "digest", "input", 100, 1, age_s, None, left_s)
        ended = ev.FinalRecord(
            WorkId("gate", "s"), "digest", "failed", "deadline", "", 1.0, (), None, 0, False, age_s
        )  # fmt: skip
        self.feed(ev.Restored((opened,), (ended,)) if restored else ev.Restored())
        for peer in ("d1", "d2"):
            self.feed(ev.LinkUp(peer, 1))

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.05, 1.0, 5.0, 100.0, 300.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.feed(ev.Woken())

    @rule(source=SOURCES, id=st.sampled_from(list("abcdef")), gamma=st.none() | NUMBERS, deadline=st.none() | NUMBERS,
          digest=st.sampled_from(["digest", "digest", "other"]))  # fmt: skip
    def submits(self, source: str, id: str, gamma: Optional[float], deadline: Optional[float], digest: str) -> None:
        self.feed(ev.Submitted(WorkId(source, id), digest, "input", 100, gamma, deadline))

    @rule(work=WORKS)
    def cancels(self, work: WorkId) -> None:
        self.feed(ev.CancelAsked(work))

    @rule(data=st.data(), well=st.sampled_from([True, True, False]))
    def something_owed_comes(self, data: st.DataObject, well: bool) -> None:
        if self.owed:
            self.settle(data.draw(st.sampled_from(self.owed)), well)

    @rule(well=st.sampled_from([True, True, True, False]))
    def segment_ends(self, well: bool) -> None:
        if self.infer is not None:
            i, self.infer = self.infer, None
            if isinstance(i, ins.InferTogether):
                first = i.parts[0].key if not well else None  # which fails alone
                ends = [ev.Outcome(p.key, "tensor", 100, "test" if p.key == first else "") for p in i.parts]
                self.feed(ev.InferredTogether(tuple(ends), 0.015))
                return
            self.feed(ev.Inferred(i.key, "tensor", 100, 0.01) if well else ev.InferenceFailed(i.key, "test"))

    @rule(units=st.lists(st.integers(0, UNITS - 1), unique=True), digest=st.sampled_from(["sha", "shb"]),
          policy=st.sampled_from(["pa-mdi", "as-if-alone", "ms-mdi", "ar-mdi", "no-such"]), older=st.booleans(),
          edit=EDITS)  # fmt: skip
    def allocation_comes(self, units: List[int], digest: str, policy: str, older: bool, edit: Edit) -> None:
        self.epoch += 0 if older else 1
        self.feed(ev.AllocationReceived(allocation(self.epoch, units, digest, policy, edit)))

    @rule(peer=PEERS, unit=st.integers(0, UNITS - 1))
    def neighbour_offers(self, peer: str, unit: int) -> None:
        self.receive(peer, ms.Beacon(peer, (ms.ReadySegment("net", unit, unit + 1, 0.001),)))

    @rule(data=st.data(), peer=PEERS, kind=st.sampled_from([ms.Ctc, ms.Taken, ms.PassedOn, ms.Refusal, ms.Revoked]))
    def neighbour_speaks_of_what_is_here(self, data: st.DataObject, peer: str, kind: Any) -> None:
        held = self.device.holdings.all()
        if held:
            key = data.draw(st.sampled_from([h.key for h in held]))
            key = data.draw(st.sampled_from([key, key.at(key.boundary + 1)]))
            self.receive(
                peer, kind(key, 1.0) if kind is ms.Ctc else kind(key, "busy") if kind is ms.Refusal else kind(key)
            )

    # -- the world, as it should not be --------------------------------------------------------------------------

    @rule(
        peer=PEERS, message=MESSAGES, payload=st.sampled_from(["tensor", "tensor", None]), nbytes=SMALL, transit=NUMBERS
    )
    def anything_is_received(
        self, peer: str, message: ms.AnyMessage, payload: Any, nbytes: int, transit: float
    ) -> None:
        self.receive(peer, message, payload, nbytes, transit)

    def receive(
        self, peer: str, message: ms.AnyMessage, payload: Any = None, nbytes: int = 100, transit: float = 0.0
    ) -> None:
        if isinstance(message, ms.Ctc):
            self.granted.add(message.key)
        self.feed(ev.Received(peer, message, payload, nbytes, transit))

    @rule(peer=PEERS, instance=st.sampled_from([1, 1, 2]))
    def link_comes_up(self, peer: str, instance: int) -> None:
        self.feed(ev.LinkUp(peer, instance))

    @rule(peer=PEERS)
    def link_goes_down(self, peer: str) -> None:
        self.feed(ev.LinkDown(peer))

    @rule(peer=PEERS, state=st.sampled_from(["online", "offline", "stopped", "?"]))
    def state_is_heard(self, peer: str, state: str) -> None:
        self.feed(ev.PeerState(peer, state))

    @rule(segment=SEGMENTS, event=st.sampled_from([ev.EngineLoaded, ev.EngineUnloaded]))
    def engine_says_what_nobody_asked(self, segment: Segment, event: Any) -> None:
        if not any(isinstance(i, (ins.Load, ins.Unload)) and i.segment == segment for i in self.owed):
            self.feed(event(segment))

    @rule(key=KEYS, failed=st.booleans())
    def a_segment_ends_that_never_ran(self, key: Key, failed: bool) -> None:
        if getattr(self.infer, "key", None) != key:
            self.feed(ev.InferenceFailed(key, "test") if failed else ev.Inferred(key, "tensor", 100, 0.01))

    @rule(work=WORKS, final=st.booleans(), event=st.sampled_from(["written", "refused", "delivered"]))
    def a_word_about_any_work(self, work: WorkId, final: bool, event: str) -> None:
        owed = any(isinstance(i, (ins.JournalOpen, ins.JournalFinal)) and i.work == work for i in self.owed)
        if event == "delivered":
            self.feed(ev.ResultDelivered(work))
        elif not owed:
            self.feed(ev.JournalWritten(work, final) if event == "written" else ev.JournalRefused(work, final, "full"))

    @rule(on=st.booleans())
    def drains(self, on: bool) -> None:
        self.feed(ev.DrainAsked(on))

    # -- what must hold ------------------------------------------------------------------------------------------

    @invariant()
    def bounds_hold(self) -> None:
        placing, holdings = self.device.placing, self.device.holdings
        slots = sum(model.units for model in self.device.context.models.values())
        assert len(placing.compute) <= LIMITS.queue_works_max + LIMITS.asks_max + slots
        assert placing.room.waiting() <= LIMITS.parked_max
        assert len(self.device.remembered) <= LIMITS.known_keys_max
        assert holdings.kept_bytes <= LIMITS.backup_bytes_max
        assert holdings.kept_bytes == sum(h.nbytes for h in holdings.all() if h.place in ("backup", "answering"))
        assert self.device.head.open_count() <= LIMITS.open_works_max + 1
        running = placing.compute.running
        assert (running is None) == (self.infer is None), "core and executor disagree"

    def teardown(self) -> None:
        """The world turns kind: alone, with every segment, this device must bring every admitted work to its end."""
        for peer in ("d1", "d2", "stranger"):
            self.feed(ev.LinkDown(peer))
        self.feed(ev.DrainAsked(False))
        for _ in range(3):
            self.epoch += 1
            self.feed(ev.AllocationReceived(allocation(self.epoch, list(range(UNITS)), f"kind{self.epoch}")))
            self.rest(5.0)
        self.rest(250.0)
        known = {work: self.device.head.get(work) for work in self.admitted}
        unended = [work for work, admitted in known.items() if admitted is not None and admitted.state == "open"]
        assert not unended, f"no end: {unended}"
        assert self.device.head.open_count() == 0
        assert self.admitted <= set(self.ends), self.admitted - set(self.ends)

    def rest(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(5000):
            if self.owed:
                self.settle(self.owed[0], well=True)
            elif self.infer is not None:
                self.segment_ends(True)
            else:
                wake = self.device.wake_at()
                if wake is None or wake > until:
                    self.now = until
                    return
                self.now = max(self.now, wake)
                self.feed(ev.Woken())
        raise AssertionError("the device does not come to rest")


AnyEvent.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyEvent = AnyEvent.TestCase
