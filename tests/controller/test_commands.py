"""Commands by hand are idempotent by id, answered at once, and answered again when they have come true."""

from pamdi.controller.commands import REPORT_S_MAX, Commands
from pamdi.core.topics import Topic
from tests.controller.fleets import wanted
from tests.controller.pretend import PretendFleet

DRAIN = Topic("device", "d1", "drain")
REALLOCATE = Topic("controller", "", "reallocate")


def settled() -> PretendFleet:
    fleet = PretendFleet(wanted(), [400, 400, 400])
    fleet.start()
    fleet.settle()
    return fleet


def test_a_drain_is_accepted_and_done_once_the_device_is_empty() -> None:
    fleet = settled()
    commands = Commands(fleet.rollout)
    assert commands.obey(DRAIN, "c1", True, fleet.now).status == "accepted"
    assert commands.finished(fleet.now) == []
    fleet.settle()
    assert [report.status for report in commands.finished(fleet.now)] == ["done"]
    assert fleet.ready("d1") == frozenset()


def test_an_edit_that_is_not_in_use_is_said_to_whoever_counts_on_it() -> None:
    fleet = settled()
    commands = Commands(fleet.rollout, lambda: "controller.toml: unknown key gama")
    commands.obey(REALLOCATE, "c1", True, fleet.now)
    fleet.settle()
    (report,) = commands.finished(fleet.now)
    assert "the newest configuration is not in use: controller.toml: unknown key gama" in report.said


def test_the_same_id_again_does_nothing_twice() -> None:
    fleet = settled()
    commands = Commands(fleet.rollout)
    commands.obey(DRAIN, "c1", True, fleet.now)
    fleet.settle()
    commands.finished(fleet.now)
    fleet.rollout.drain("d1", False, fleet.now)
    assert commands.obey(DRAIN, "c1", True, fleet.now).status == "done"
    assert fleet.rollout.drained == frozenset()


def test_a_drain_of_nobody_says_who_is_there() -> None:
    fleet = settled()
    report = Commands(fleet.rollout).obey(Topic("device", "d9", "drain"), "c1", True, fleet.now)
    assert (report.status, report.said) == ("failed", "there is no device d9; known are d0, d1, d2")


def test_what_takes_too_long_is_said_to_wait_and_why() -> None:
    fleet = settled()
    commands = Commands(fleet.rollout)
    commands.obey(DRAIN, "c1", True, fleet.now)
    fleet.tick(1.0)  # the plan is made, nobody obeys it
    (report,) = commands.finished(fleet.now + REPORT_S_MAX)
    assert report.status == "waiting" and "d1: 0 segments to come" in report.said


def test_reallocate_gives_a_broken_engine_another_chance() -> None:
    fleet = PretendFleet(wanted(), [400, 400])
    fleet.devices["d0"].cursed.add(("net", 2))
    fleet.start()
    fleet.settle()
    fleet.devices["d0"].cursed.clear()
    Commands(fleet.rollout).obey(REALLOCATE, "c2", True, fleet.now)
    fleet.settle()
    assert ("net", 2) in fleet.ready("d0")
