"""Short plays: a device that slows down changes the plan, after the delay; a reallocation says what it is worth."""

from typing import Any, Dict, Set

import msgspec
import pytest

from pamdi.client.device_stats import Probed, Recent
from pamdi.controller.commands import Commands
from pamdi.controller.fleet import LinkEntry
from pamdi.controller.slowed import Terms
from pamdi.controller.solver.moving import Terms as MovingTerms
from pamdi.core.topics import Topic
from tests.controller.fleets import gate, net, wanted
from tests.controller.pretend import PretendFleet

REALLOCATE = Topic("controller", "", "reallocate")
DELAY_S = 30.0


def settled(*memory: int, **more: Any) -> PretendFleet:
    fleet = PretendFleet(wanted([gate()], speed=Terms(slow_delay_s=DELAY_S), **more), list(memory))
    fleet.start()
    fleet.settle()
    return fleet


def on_the_way(fleet: PretendFleet) -> Set[str]:
    """The devices that the urgent source's works visit by the last documents."""
    return {visit.device for route in fleet.retained["d0"].routes["gate"] for visit in route.visits}


def test_a_device_that_slows_down_is_planned_around_after_the_delay_and_not_before() -> None:
    fleet = settled(400, 400, 400)
    fleet.run(10.0)
    assert (on_the_way(fleet), fleet.epochs) == ({"d0"}, [1])
    fleet.devices["d0"].slower = 5.0
    fleet.run(DELAY_S)
    assert fleet.epochs == [1]
    fleet.run(3.0)
    assert fleet.epochs == [1, 2] and "d0" not in on_the_way(fleet)
    assert fleet.rollout.conditions()[0].startswith("d0 takes 5 times its table's seconds")
    fleet.run(300.0)
    assert fleet.epochs == [1, 2]  # steady


def test_a_device_that_flickers_changes_nothing() -> None:
    fleet = settled(400, 400, 400)
    for _ in range(10):
        fleet.devices["d0"].slower = 5.0
        fleet.run(DELAY_S - 5.0)
        fleet.devices["d0"].slower = 1.0
        fleet.run(2.0)
    assert (on_the_way(fleet), fleet.epochs) == ({"d0"}, [1])


def test_it_is_planned_with_again_only_under_the_lower_factor_for_the_delay() -> None:
    fleet = settled(400, 400, 400)
    fleet.devices["d0"].slower = 2.5
    fleet.run(DELAY_S + 3.0)
    assert "d0" not in on_the_way(fleet)
    fleet.devices["d0"].slower = 1.8
    fleet.run(4 * DELAY_S)
    assert fleet.epochs == [1, 2]
    fleet.devices["d0"].slower = 1.1
    fleet.run(DELAY_S + 3.0)
    assert on_the_way(fleet) == {"d0"} and fleet.rollout.conditions() == []


def test_devices_are_told_the_tables_seconds_whatever_the_plan_is_made_with() -> None:
    """What they measure starts from there, and what is emulated is paced by it: an echo must not become the truth."""
    fleet = settled(400, 400, 400)
    fleet.devices["d0"].slower = 5.0
    fleet.run(DELAY_S + 3.0)
    assert {r.seconds for document in fleet.retained.values() for r in document.segments} == {0.01}


def test_a_new_life_of_the_device_is_believed() -> None:
    fleet = settled(400, 400, 400)
    fleet.devices["d0"].slower = 5.0
    fleet.run(DELAY_S + 3.0)
    fleet.devices["d0"].slower = 1.0
    fleet.kill("d0")
    fleet.start("d0")
    fleet.settle()
    assert on_the_way(fleet) == {"d0"} and fleet.rollout.conditions() == []


def test_a_restarted_controller_still_knows_a_slow_device_and_does_not_move_engines_to_and_fro() -> None:
    fleet = settled(400, 400, 400)
    fleet.devices["d0"].slower = 5.0
    fleet.run(DELAY_S + 3.0)
    for _ in range(2):  # twice: the second life must keep what it has not yet heard of anew
        fleet.restart_controller()
        fleet.settle()
        assert "d0" not in on_the_way(fleet)
        assert fleet.rollout.conditions()[0].startswith("d0 takes 5 times its table's seconds")
    fleet.devices["d0"].slower = 1.0
    fleet.run(Terms().slow_forget_s + 5.0)  # nothing runs there any more, and after so long it gets another chance
    assert on_the_way(fleet) == {"d0"} and fleet.rollout.kept().slower == ()


def test_what_is_kept_of_a_device_holds_for_the_life_in_which_it_was_seen() -> None:
    fleet = settled(400, 400, 400)
    fleet.devices["d0"].slower = 5.0
    fleet.run(DELAY_S + 3.0)
    (kept,) = fleet.rollout.kept().slower
    assert kept.device == "d0" and kept.factor == pytest.approx(5.0, rel=0.01)
    d0 = fleet.devices["d0"]
    d0.slower, d0.instance, d0.slots, d0.epoch = 1.0, d0.instance + 1, {}, 0  # another life while nobody looked
    fleet.restart_controller()
    fleet.unread.add("d0")
    fleet.settle()
    assert on_the_way(fleet) == {"d0"} and fleet.rollout.kept().slower == ()


def test_another_power_mode_than_the_tables_is_one_line() -> None:
    fleet = settled(400, power_modes={("net", "board"): "2 MODE_15W"})
    fleet.rollout.heard_power_mode("d0", "2 MODE_15W")
    assert fleet.rollout.conditions() == []
    fleet.rollout.heard_power_mode("d0", "0 MAXN")
    (line,) = fleet.rollout.conditions()
    assert line.startswith("d0 is in power mode '0 MAXN', the table of board was measured in '2 MODE_15W': ")


def test_a_reallocation_says_what_was_kept_and_what_another_plan_would_have_gained() -> None:
    fleet = settled(400, 400, 400)
    commands = Commands(fleet.rollout)
    assert commands.obey(REALLOCATE, "c1", True, fleet.now).status == "accepted"
    fleet.settle()
    (report,) = commands.finished(fleet.now)
    weighed = report.allocation
    assert report.status == "done" and weighed is not None
    assert (weighed.gain, weighed.engines, weighed.load_s, weighed.moved) == (0.0, 0, 0.0, False)
    assert weighed.before == weighed.planned == weighed.best
    assert report.said.startswith("kept, no engine moves: J was ")
    assert commands.obey(REALLOCATE, "c1", True, fleet.now) == report


def told(fleet: PretendFleet, seconds: float, peers: Dict[str, float]) -> None:
    """Time goes by, and d0 tells every ten seconds what its links to ``peers`` carry, in bytes per second."""
    for step in range(round(seconds / 10)):
        found = {peer: Probed(recent=Recent(rate, 0.001, step)) for peer, rate in peers.items()}
        fleet.rollout.heard_links("d0", found, fleet.now)
        fleet.run(10.0)


def entered(fleet: PretendFleet) -> Set[str]:
    """The devices that the urgent source's works go to from its head."""
    return {route.visits[0].device for route in fleet.retained["d0"].routes["gate"]}


def test_a_link_that_becomes_slow_is_planned_around_after_the_delay_and_used_again_when_it_is_well() -> None:
    """d0 holds nothing, so every work leaves it; over the link that is stated to be the faster one, at first."""
    links = (LinkEntry("d0", "d1", 1e6, 0.001), LinkEntry("d0", "d2", 0.2e6, 0.001))
    fleet = PretendFleet(wanted([gate()], links=links, link_terms=Terms(slow_delay_s=DELAY_S)), [0, 400, 400])
    fleet.start()
    fleet.settle()
    assert (entered(fleet), fleet.rollout.why) == ({"d1"}, ())
    told(fleet, DELAY_S, {"d1": 0.02e6, "d2": 0.2e6})
    assert entered(fleet) == {"d1"}
    told(fleet, 20.0, {"d1": 0.02e6, "d2": 0.2e6})
    assert (entered(fleet), fleet.rollout.why) == ({"d2"}, ("link d0 -> d1",))
    assert fleet.rollout.conditions()[0].startswith("link d0 -> d1 carries 0.02 MB/s, 1 ms, ")
    rates = {n.id: n.rate_bytes_per_s for n in fleet.retained["d0"].neighbours}
    back = {n.id: n.rate_bytes_per_s for n in fleet.retained["d1"].neighbours}
    assert (rates, back["d0"]) == ({"d1": 0.02e6, "d2": 0.2e6}, 1e6)  # the other direction is as stated
    epochs = list(fleet.epochs)
    told(fleet, 300.0, {"d1": 0.02e6, "d2": 0.2e6})
    assert fleet.epochs == epochs  # steady
    fleet.restart_controller()
    fleet.settle()
    assert entered(fleet) == {"d2"}  # it has not forgotten
    told(fleet, DELAY_S + 20.0, {"d1": 1e6, "d2": 0.2e6})
    assert entered(fleet) == {"d1"} and fleet.rollout.conditions() == []


def test_a_device_that_moves_to_another_address_has_links_as_stated() -> None:
    fleet = settled(400, 400)
    fleet.rollout.configure(fleet.rollout.wanted._replace(link_terms=Terms(slow_delay_s=DELAY_S)), fleet.now)
    told(fleet, DELAY_S + 20.0, {"d1": 0.1e6})
    assert len(fleet.rollout.conditions()) == 1
    fleet.rollout.heard_info("d1", msgspec.structs.replace(fleet.devices["d1"].info(), host="elsewhere"), fleet.now)
    assert fleet.rollout.conditions() == []


def test_a_device_of_a_type_without_a_table_is_one_line() -> None:
    model = msgspec.structs.replace(net(), seconds={"board": [0.01] * 4, "orin": [0.01] * 4})
    fleet = PretendFleet(wanted([gate()], [model]), [400])
    fleet.start()
    info = msgspec.structs.replace(fleet.devices["d0"].info(), type="nano")
    fleet.rollout.heard_info("d0", info, fleet.now)
    (line,) = fleet.rollout.conditions()
    assert line.startswith("d0 is of type nano and gets no part of net, whose seconds are of board, orin: ")


@pytest.mark.parametrize(
    "load_bytes_per_s, moved, why",
    [
        (1e6, True, "is worth their loading within 600 s"),
        (0.01, False, "the loading costs more than it gains in 600 s"),
    ],
)
def test_a_reallocation_moves_engines_only_where_that_pays(load_bytes_per_s: float, moved: bool, why: str) -> None:
    """The head has moved from d1 to d0 since the engines were loaded: the large input crosses the link to the first
    unit, which would not be so with the two engines of 100 bytes the other way round."""
    model = msgspec.structs.replace(net(2), bytes=[100_000, 1000, 1000])
    moving = MovingTerms(load_bytes_per_s=load_bytes_per_s)
    fleet = PretendFleet(wanted([gate("d1")], [model], moving=moving), [100, 100])
    fleet.start()
    fleet.settle()
    fleet.rollout.configure(wanted([gate("d0")], [model], moving=moving), fleet.now)
    fleet.settle()
    assert fleet.ready("d0") == {("net", 1)}
    commands = Commands(fleet.rollout)
    commands.obey(REALLOCATE, "c1", True, fleet.now)
    fleet.settle()
    (report,) = commands.finished(fleet.now)
    weighed = report.allocation
    assert weighed is not None and weighed.before is not None and weighed.best is not None
    assert (weighed.engines, weighed.load_s, weighed.moved) == (2, 100 / load_bytes_per_s, moved)
    assert weighed.planned == (weighed.best if moved else weighed.before)
    assert weighed.gain == pytest.approx(1 - weighed.best / weighed.before)
    assert weighed.best < 0.8 * weighed.before
    assert why in report.said and report.said.startswith("moved: " if moved else "kept: ")
    assert (fleet.ready("d0") == {("net", 0)}) == moved
