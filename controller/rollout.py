"""From what the fleet says to what it is told: make-before-break, by epoch.

Pure: facts in, documents out, time an argument. ``allocation`` says what should be held where; ``transition`` says
how far one can go towards it now; documents whose content changes are published with a new epoch, in a small fleet
all the others too. So one epoch asks for old and new together, the next, once all have the new ready, only for the new.

Facts that come together lead to one plan: it is made ``settle_s`` after the last of them, and no later than
``SETTLES_MAX`` times that after the first. In a large fleet it is a plan that is quickly found, and ``question`` says
what to search beside; what comes of it (``answered``) is followed like any other plan.
"""

from typing import Dict, FrozenSet, List, Mapping, Optional, Tuple

from pamdi.client.device_stats import Probed
from pamdi.controller.allocation import Outcome, units_of
from pamdi.controller.conditions import conditions
from pamdi.controller.documents import news, routes_now, units_asked, write_documents
from pamdi.controller.fleet import DeviceEntry, Fleet, Unit
from pamdi.controller.kept import Kept
from pamdi.controller.measured_links import (
    Figures,
    MeasuredLinks,
    Pair,
    State,
    stated_by,
    tensor_bytes,
    with_measured,
)
from pamdi.controller.narrow import Routes
from pamdi.controller.network import Network
from pamdi.controller.planning import Answer, Question, again, answer, searched_beside
from pamdi.controller.reach import Ground, Neighbourhood
from pamdi.controller.seen import Seen
from pamdi.controller.slowed import Ready, with_slower
from pamdi.controller.transition import Holder, next_step
from pamdi.controller.wanted import Wanted
from pamdi.controller.worth import Weighed
from pamdi.core.allocation import AllocationState, DeviceAllocation, DeviceInfo, Plan, Resident, SourceSpec
from pamdi.core.device_life import DEVICE

SETTLES_MAX = 4
SLOWER_KEPT_MAX = 1000  # devices, over a restart of the controller


class Rollout:
    """``kept``: what a former life wrote down."""

    def __init__(self, wanted: Wanted, kept: Kept = Kept()) -> None:
        self.wanted = wanted
        self.epoch = kept.epoch
        self.devices: Dict[str, Seen] = {}
        self.published: Dict[str, DeviceAllocation] = {}
        self._routes: Routes = {}  # all of them, as documents were last written with
        self.refused: Dict[str, str] = {}
        self.remarks: Tuple[str, ...] = ()
        self.weighed: Optional[Weighed] = None  # of the last plan that was made afresh too
        self.gap: Optional[Unit] = None
        self._plan: Optional[Plan] = None
        self._basis = wanted  # what the plan was made from: documents keep to it until the next plan
        self._target: Dict[str, FrozenSet[Unit]] = {}
        self._first_fact: Optional[float] = None
        self._plan_at: Optional[float] = None
        self._afresh = False
        self._beside: Optional[Question] = None
        self._afresh_beside = False  # until it has been answered: what was asked for once is not forgotten
        self._why: List[str] = []
        self.why: Tuple[str, ...] = ()  # the devices and links that the last plan was made afresh for
        self._links = MeasuredLinks(kept.links)
        self._slower = {slower.device: slower for slower in kept.slower}  # until the device is heard of
        self._links_of_plan: Dict[Pair, Figures] = {}
        self._neighbourhood = Neighbourhood()
        self._state: Optional[State] = None
        self._changed = False
        self._drained = set(kept.drained)

    @property
    def drained(self) -> FrozenSet[str]:
        return frozenset(self._drained)

    def kept(self) -> Kept:
        """What a later life must know."""
        found = {slower.device: slower for id, seen in self.devices.items() for slower in seen.kept_speed(id)}
        slower = sorted({**self._slower, **found}.items())[:SLOWER_KEPT_MAX]
        return Kept(self.epoch, tuple(sorted(self._drained)), self._links.kept(), tuple(kept for _, kept in slower))

    @property
    def plan(self) -> Optional[Plan]:
        return self._plan

    @property
    def basis(self) -> Wanted:
        """The configuration that the present plan was made from; a newer one is planned after ``settle_s``."""
        return self._basis

    # -- facts -----------------------------------------------------------------------------------------------------

    def heard_state(self, id: str, state: str, now: float) -> None:
        """The device's retained state topic: online, offline or stopped; anything else is ignored."""
        if state not in ("online", "offline", "stopped"):
            return
        seen = self._seen(id)
        before, seen.life = seen.life, DEVICE.step(seen.life, state)
        if seen.life != before:
            seen.since = now
            self._replan(now)

    def heard_info(self, id: str, info: DeviceInfo, now: float) -> None:
        seen = self._seen(id)
        if seen.info == info:
            return
        if seen.info is not None and seen.info.instance != info.instance:
            seen.new_life()
        if seen.info is not None and seen.info.host != info.host:
            self._links.elsewhere(id)
        seen.info = info
        seen.resume_speed(self._slower.pop(id, None), now)
        self._replan(now)

    def heard_allocation(self, id: str, state: AllocationState, now: float) -> None:
        seen = self._seen(id)
        if seen.state == state:
            return
        draining = seen.draining
        if seen.heard(state, now, self.wanted.retry_after_s) or seen.draining != draining:
            self._replan(now)
        if state.epoch > self.epoch:
            self.epoch = state.epoch  # somebody before us went further: what we say next must be newer
            self.published.clear()
        self._changed = True

    def heard_beacon(self, id: str, ready: Ready, now: float) -> None:
        """What its segments take by now. A device that has become slower, or as fast as its table again, changes what
        the plan is made with, and whether other devices should hold its engines."""
        seen, wanted = self.devices.get(id), self.wanted
        if seen is None or not seen.online or seen.info is None:
            return
        if seen.speed.heard(ready, wanted.models, seen.info.type, now, wanted.speed):
            self._measured_anew([f"device {id}"], now)

    def heard_links(self, id: str, links: Mapping[str, Probed], now: float) -> None:
        """What it finds its links to carry, from its statistics."""
        seen, wanted = self.devices.get(id), self.wanted
        if seen is None or not seen.online:
            return
        nbytes = tensor_bytes(wanted.models.values())
        changed = self._links.heard(id, links, self._stated(), nbytes, now, wanted.link_terms)
        self._measured_anew([f"link {a} -> {b}" for a, b in changed], now)

    def heard_power_mode(self, id: str, mode: Optional[str]) -> None:
        if id in self.devices:
            self.devices[id].power_mode = mode

    def configure(self, wanted: Wanted, now: float) -> None:
        self.wanted = wanted
        self._replan(now)

    def drain(self, id: str, on: bool, now: float) -> Optional[str]:
        """Returns a sentence for who asked, None when there is no such device."""
        if id not in self.devices:
            return None
        (self._drained.add if on else self._drained.discard)(id)
        self.devices[id].drained = on
        self._replan(now)
        return f"{id} hands its segments to others and is left empty" if on else f"{id} takes part again"

    def reallocate(self, now: float) -> str:
        for seen in self.devices.values():
            seen.forgive()
        self._afresh = True
        self._replan(now)
        return "the allocation is made anew"

    def head_of(self, source: str) -> Tuple[Optional[SourceSpec], bool]:
        """The source, if there is one, and whether its head can take works."""
        spec = next((s for s in self.wanted.sources if s.id == source), None)
        if spec is None or source in self.refused:
            return spec, False
        seen = self.devices.get(spec.device)
        return spec, seen is not None and seen.life == "online"

    # -- a search beside -------------------------------------------------------------------------------------------

    @property
    def question(self) -> Optional[Question]:
        """What a search beside should answer now; None where none is wanted, or the fleet has changed since. Another
        object is another question."""
        return self._beside if self._plan_at is None else None

    def asks(self, question: Question) -> bool:
        """Whether it is still the question."""
        return question is self.question

    def answered(self, question: Question, found: Optional[Answer]) -> None:
        """What the search found, None when it came to nothing; forgotten when that is not asked any more."""
        if not self.asks(question):
            return
        self._beside, self._afresh_beside = None, False
        if found is not None:
            self._note(found.weighed)
            if found.outcome.plan != self._plan:
                self._take(found.outcome)

    # -- documents -------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> Dict[str, DeviceAllocation]:
        """What to publish now, by device; empty when nothing has changed."""
        self._age(now)
        if self._plan_at is not None and now >= self._plan_at:
            self._plan_at = self._first_fact = None
            self._make_plan()
            if self._beside is not None:
                return {}  # a large fleet's documents have ticks of their own
        documents = self._documents() if self._plan is not None and self._changed else None
        if documents is None:
            return {}
        self._changed = False
        told = news(documents, self.published, self.epoch + 1)
        if not told:
            return {}
        self.epoch += 1
        self.published = {id: told.get(id) or self.published[id] for id in documents}
        for id, document in told.items():
            self.devices[id].is_told(units_asked(document), self.epoch)
        return told

    def settled(self) -> bool:
        """Whether every device that is online holds exactly what the plan wants, as far as it can."""
        return self._plan_at is None and self._plan is not None and not self._changed and not self.unsettled()

    def unsettled(self) -> List[str]:
        """What is still under way, a line per device."""
        lines = []
        for id in sorted(self.devices):
            seen, target = self.devices[id], self._target.get(id, frozenset())
            if seen.online:
                missing, extra = target - seen.ready() - seen.unable(), seen.present() - target
                if missing or extra:
                    lines.append(f"{id}: {len(missing)} segments to come, {len(extra)} to go")
        return lines

    def conditions(self) -> List[str]:
        return conditions(self.devices, self.wanted) + self._links.conditions(self._stated())

    # -- inside ----------------------------------------------------------------------------------------------------

    def _seen(self, id: str) -> Seen:
        if id not in self.devices:
            self.devices[id] = Seen()
            self.devices[id].drained = id in self._drained
        return self.devices[id]

    def _stated(self) -> State:
        """What the configuration says of each link."""
        if self._state is None:
            network = Network(self.wanted.stated_fleet(self._boards()))
            self._state = stated_by(network, self.wanted.default_link)
        return self._state

    def _replan(self, now: float) -> None:
        self._state = None
        self._first_fact = now if self._first_fact is None else self._first_fact
        self._plan_at = min(now + self.wanted.settle_s, self._first_fact + SETTLES_MAX * self.wanted.settle_s)

    def _age(self, now: float) -> None:
        wanted = self.wanted
        for id, seen in self.devices.items():
            if seen.life == "suspect" and now >= seen.since + wanted.gone_after_s:
                seen.life, seen.since = DEVICE.step(seen.life, "overdue"), now
                self._replan(now)
            if seen.online and id in self.published:
                asked = set(units_asked(self.published[id]))
                if seen.late(now, asked, wanted.load_s_max, wanted.retry_after_s):
                    self._replan(now)
            if seen.retry(now):
                self._replan(now)
            if seen.speed.age(now, wanted.speed):
                self._measured_anew([f"device {id}"], now)
        self._measured_anew([f"link {a} -> {b}" for a, b in self._links.age(now, wanted.link_terms)], now)

    def _measured_anew(self, what: List[str], now: float) -> None:
        """``what`` is faster or slower than was planned with: a plan from the beginning may be worth its moves."""
        if what:
            self._afresh = True
            self._why += what
            self._replan(now)

    def _reachable(self) -> List[str]:
        return sorted(id for id, seen in self.devices.items() if seen.reachable)

    def _infos(self) -> Dict[str, DeviceInfo]:
        infos = ((id, self.devices[id].info) for id in self._reachable())
        return {id: info for id, info in infos if info is not None}

    def _boards(self) -> List[DeviceEntry]:
        return [DeviceEntry(id, info.type, info.memory_bytes) for id, info in self._infos().items()]

    def _make_plan(self) -> None:
        boards = self._boards()
        if not boards:
            return
        self._links_of_plan = self._links.planned(self._stated())
        question = self._asked(boards)
        self._afresh = False
        first = answer(question)
        self._note(first.weighed)
        self._take(first.outcome)
        self._basis, self._beside = self.wanted, None
        if searched_beside(question) and first.outcome.plan.routes:
            nothing_held = not any(question.held.residents.values())
            self._afresh_beside = self._afresh_beside or question.afresh or nothing_held
            self._beside = again(question, first.outcome.plan, self._afresh_beside)

    def _take(self, outcome: Outcome) -> None:
        self._plan = outcome.plan
        self.refused, self.remarks = outcome.refused, outcome.remarks
        self._target = units_of(outcome.plan)
        self._changed = True

    def _note(self, weighed: Optional[Weighed]) -> None:
        if weighed is not None:
            self.weighed = weighed
            self.why, self._why = tuple(dict.fromkeys(self._why)), []

    def _asked(self, boards: List[DeviceEntry]) -> Question:
        reachable, wanted = self._reachable(), self.wanted
        routes = self._plan.routes if self._plan is not None else {}
        return Question(
            fleet=self._fleet(boards),
            held=Plan("held", 0.0, None, routes, {id: self._held(id) for id in reachable}),
            in_force=self._plan,
            drained=frozenset(id for id in reachable if self.devices[id].draining),
            frozen=frozenset(id for id in reachable if not self.devices[id].online),
            unable={id: self.devices[id].unable() | self._not_in_store(id) for id in reachable},
            policy=wanted.policy,
            residents=wanted.residents,
            solver=wanted.solver,
            moving=wanted.moving,
            afresh=self._afresh,
        )

    def _fleet(self, boards: List[DeviceEntry]) -> Fleet:
        """With the seconds that slow devices take, not their tables', and the links as they are measured."""
        fleet = with_measured(self.wanted.fleet(boards), self._links_of_plan)
        return with_slower(fleet, {id: seen.speed.planned for id, seen in self.devices.items()})

    def _held(self, id: str) -> Tuple[Resident, ...]:
        """What stays where it is if it can: what is there, and what we have asked for and is on its way."""
        seen = self.devices[id]
        units = (seen.slots("ready", "loading") | frozenset(seen.told)) - seen.unable()
        return tuple(Resident(model, u, u + 1) for model, u in sorted(units) if model in self.wanted.models)

    def _not_in_store(self, id: str) -> FrozenSet[Unit]:
        """Units whose very file the device says it has not. One that says nothing of its store is tried."""
        info = self.devices[id].info
        if info is None or not info.models:
            return frozenset()
        return frozenset(
            (model, u)
            for (model, u), digest in self.wanted.digests.items()
            if digest and info.models.get(model, {}).get(f"{u}:{u + 1}") != digest
        )

    def _documents(self) -> Optional[Dict[str, DeviceAllocation]]:
        """None: there was no time for all of it, the next call goes on."""
        assert self._plan is not None
        known = self._basis.bytes_of()
        admitted = {s.id: s.model for s in self._basis.sources if s.id in self._plan.routes}
        needed = frozenset(unit for unit in known if unit[0] in admitted.values())
        # Who has joined since the plan was made is told nothing before the next one: an epoch less.
        ids = [id for id in self._reachable() if id in self._target or id in self.published]
        holders = {id: self._holder(id, known) for id in ids}
        step = next_step(holders, needed, known, final=self._plan_at is None)
        self.remarks = tuple(dict.fromkeys(self.remarks + step.remarks))
        self.gap = step.gap
        infos = {id: info for id, info in self._infos().items() if id in holders}
        before = self._routes if self.published and not step.switched else {}
        routes = routes_now(self._plan.routes, before, step.asks, admitted)
        ground = Ground(self._basis, self._boards(), self._links_of_plan)
        documents = write_documents(ground, self._neighbourhood, step.asks, infos, routes, admitted)
        if documents is not None:
            self._routes = routes
        return documents

    def _holder(self, id: str, known: Mapping[Unit, int]) -> Holder:
        seen = self.devices[id]
        assert seen.info is not None
        # Before our first word to a device in this life of ours, what it holds is what our former life asked for.
        told = frozenset(seen.told) if id in self.published else seen.slots("ready", "loading") | frozenset(seen.told)
        return Holder(
            target=self._target.get(id, frozenset()),
            told=frozenset(unit for unit in told if unit in known),
            ready=seen.ready(),
            present=seen.present(),
            absent=seen.absent(),
            broken=seen.unable(),
            memory_bytes=seen.info.memory_bytes,
            online=seen.online,
            counts=seen.online and not seen.stopping,
        )
