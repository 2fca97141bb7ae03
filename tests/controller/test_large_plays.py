"""Short plays of a fleet too large for a tick: a plan at once, and what a search beside finds is followed like any."""

from typing import Any, List, Optional, Tuple

import msgspec
import pytest

from pamdi.controller.allocation import units_of
from pamdi.controller.commands import Commands
from pamdi.controller.fleet import LinkEntry, SourceEntry
from pamdi.controller.planning import Answer, Question, answer
from pamdi.controller.solver.live import WORK_MAX, too_large
from pamdi.controller.solver.moving import Terms as MovingTerms
from pamdi.controller.wanted import Wanted
from pamdi.controller.worth import worth_telling
from pamdi.core.allocation import Plan, Route
from pamdi.core.topics import Topic
from tests.controller.fleets import wanted
from tests.controller.pretend import PretendFleet

REALLOCATE = Topic("controller", "", "reallocate")
DEVICES, SOURCES = 36, 15
STAY = MovingTerms(gain_min=1.0)  # no engine ever moves for a gain


def crowded(**more: Any) -> Wanted:
    """Three devices are the heads of all sources, which ask for more than the three can do. Links to the next five."""
    pairs = [(f"d{n}", f"d{(n + step) % DEVICES}") for n in range(DEVICES) for step in range(1, 6)]
    links = tuple(LinkEntry(a, b, 1e6, 0.001) for a, b in pairs)
    sources = [SourceEntry(f"s{n:02d}", "net", f"d{n % 3}", gamma=1.0 + n % 2, rate_hz=18.0) for n in range(SOURCES)]
    return wanted(sources, links=links, default_link=None, **more)


def started(**more: Any) -> PretendFleet:
    """The first plan is made and told."""
    fleet = PretendFleet(crowded(**more), [400] * DEVICES)
    assert DEVICES * SOURCES > WORK_MAX
    fleet.start()
    while not fleet.epochs:
        fleet.tick()
    return fleet


def asked_of(fleet: PretendFleet) -> Question:
    question = fleet.rollout.question
    assert question is not None
    return question


def plan_of(fleet: PretendFleet) -> Plan:
    assert fleet.rollout.plan is not None
    return fleet.rollout.plan


def search(fleet: PretendFleet) -> Answer:
    """What a process beside does."""
    question = asked_of(fleet)
    found = answer(question)
    fleet.rollout.answered(question, found)
    return found


def test_a_first_plan_comes_at_once_and_a_better_one_as_an_epoch_of_its_own() -> None:
    fleet = started(moving=STAY)
    first = plan_of(fleet)
    assert fleet.epochs == [1] and too_large(asked_of(fleet).fleet) and asked_of(fleet).in_force is first
    found = search(fleet)
    better = plan_of(fleet)
    assert better == found.outcome.plan and better.objective < 0.98 * first.objective
    assert better.residents == first.residents
    assert fleet.rollout.question is None
    fleet.tick()
    assert fleet.epochs == [1]  # nobody has loaded what the routes need
    fleet.settle()
    assert fleet.epochs == [1, 2] and fleet.retained["d5"].routes == better.routes and fleet.rollout.settled()
    assert fleet.loads() == sum(map(len, units_of(first).values()))


def test_every_unit_is_still_held_twice() -> None:
    fleet = started()
    search(fleet)
    fleet.settle()
    held = [unit for units in units_of(plan_of(fleet)).values() for unit in units]
    assert min(held.count(("net", u)) for u in range(4)) >= 2


def test_nothing_is_asked_between_a_change_and_the_plan_for_it_and_an_old_answer_is_forgotten() -> None:
    fleet = started()
    question = asked_of(fleet)
    late = answer(question)
    fleet.stop("d9")
    assert fleet.rollout.question is None and not fleet.rollout.asks(question)
    fleet.rollout.answered(question, late)
    for _ in range(20):
        fleet.tick()
    again = asked_of(fleet)
    assert again is not question and "d9" not in {device.id for device in again.fleet.device}
    fleet.rollout.answered(question, late)
    assert asked_of(fleet) is again and plan_of(fleet) is again.in_force


def test_a_plan_from_the_beginning_is_looked_at_once_for_a_fleet_that_held_nothing_and_when_asked_for() -> None:
    fleet = started()
    assert asked_of(fleet).afresh
    fleet.stop("d9")  # the search is dropped, what it was to look at is not
    for _ in range(20):
        fleet.tick()
    assert asked_of(fleet).afresh
    found = search(fleet)
    assert found.weighed is not None and fleet.rollout.weighed == found.weighed
    fleet.settle()
    fleet.start("d9")
    for _ in range(20):
        fleet.tick()
    assert not asked_of(fleet).afresh
    assert search(fleet).weighed is None
    fleet.rollout.reallocate(fleet.now)
    for _ in range(20):
        fleet.tick()
    assert asked_of(fleet).afresh


def test_routes_stay_when_a_device_joins_and_when_others_are_hardly_better() -> None:
    fleet = started(moving=STAY)
    search(fleet)
    fleet.settle()
    routes = plan_of(fleet).routes
    fleet.stop("d29")
    fleet.settle()
    kept = {id for id, ways in routes.items() if all(v.device != "d29" for way in ways for v in way.visits)}
    assert kept and all(_ways(plan_of(fleet), id) == _ways_of(routes[id]) for id in kept)
    search(fleet)
    fleet.settle()
    epochs, plan = list(fleet.epochs), plan_of(fleet)
    fleet.rollout.reallocate(fleet.now)
    for _ in range(20):
        fleet.tick()
    assert search(fleet).outcome.plan.routes == plan.routes
    fleet.settle()
    assert fleet.epochs == epochs


def test_other_routes_are_told_for_a_hundredth_of_j_above_what_every_plan_costs() -> None:
    fleet = asked_of(started()).fleet
    before = Plan("fast", 100.0, None, {}, {})
    told = [worth_telling(fleet, before, msgspec.structs.replace(before, objective=j)) for j in (98.0, 99.5, 100.0)]
    assert told == [True, False, False]
    full = msgspec.structs.replace(before, objective=float("inf"))
    assert worth_telling(fleet, full, before) and not worth_telling(fleet, full, full)


def test_a_search_that_comes_to_nothing_leaves_the_plan_and_is_not_asked_again() -> None:
    fleet = started()
    plan = plan_of(fleet)
    fleet.rollout.answered(asked_of(fleet), None)
    assert fleet.rollout.question is None
    fleet.settle()
    assert plan_of(fleet) is plan and fleet.epochs == [1]


def test_a_reallocation_is_done_when_the_search_is_and_says_what_it_weighed() -> None:
    fleet = started()
    search(fleet)
    fleet.settle()
    commands = Commands(fleet.rollout)
    commands.obey(REALLOCATE, "c1", True, fleet.now)
    fleet.settle()
    assert commands.finished(fleet.now) == []
    found = search(fleet)
    fleet.settle()
    (report,) = commands.finished(fleet.now)
    assert report.status == "done" and report.allocation is not None and report.allocation == found.weighed


@pytest.mark.parametrize("more", [{"solver": "first"}, {"policy": "ar-mdi"}, {"policy": "local"}])
def test_who_wants_no_search_is_asked_nothing(more: Any) -> None:
    assert started(**more).rollout.question is None


def test_questions_and_answers_can_be_written_down() -> None:
    question = asked_of(started())
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(question), type=Question)
    found = answer(question)
    assert answer(read) == found
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Answer) == found


def test_the_loss_of_a_device_is_answered_before_any_search() -> None:
    fleet = started()
    search(fleet)
    fleet.settle()
    fleet.stop("d4")
    fleet.settle()
    assert all("d4" not in _devices(ways) for ways in plan_of(fleet).routes.values())
    assert fleet.rollout.question is not None


def _devices(ways: Tuple[Route, ...]) -> List[str]:
    return [visit.device for way in ways for visit in way.visits]


def _ways(plan: Plan, source: str) -> Optional[List[Any]]:
    return _ways_of(plan.routes[source])


def _ways_of(ways: Tuple[Route, ...]) -> List[Any]:
    return [(pytest.approx(way.fraction), way.visits) for way in ways]
