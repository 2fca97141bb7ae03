"""Whole scenarios as small plays: what comes out is what the costs say, and what goes wrong is survived."""

from typing import Any, Dict, List

import msgspec
import pytest

from pamdi.controller.fleet import LinkEntry
from pamdi.core.policy import POLICIES
from pamdi.simulator.report import Run, document_of
from pamdi.simulator.run import run_world, simulate
from pamdi.simulator.scenario import ArrivalsEntry, FaultEntry, Scenario
from pamdi.simulator.world import World
from tests.simulator.fleets import GATE, UNIT_S, YARD, fleet

BROKER_S = 0.001 + 0.001 + 2 * 0.0005  # submission, result, and the journal twice


def checked(scenario: Scenario, policy: str = "pa-mdi", seed: int = 1) -> World:
    return run_world(scenario, policy, seed, check=True)


def figures(world: World) -> Dict[str, Any]:
    return {id: msgspec.to_builtins(client.figures()) for id, client in world.clients.items()}


def counts(world: World, source: str = "gate") -> List[int]:
    f = world.clients[source].figures()
    return [f.count, f.answered, f.failed, f.refused, f.lost, f.duplicated]


def test_one_device_alone_takes_its_units_and_the_brokers_time() -> None:
    world = checked(fleet(devices=1, arrivals=[ArrivalsEntry("gate", "periodic", rate_hz=1.0, count=5)]))
    f = world.clients["gate"].figures()
    assert (f.answered, f.mean_s, f.p99_s) == pytest.approx((5, 4 * UNIT_S + BROKER_S, 4 * UNIT_S + BROKER_S))


def test_a_work_that_must_leave_pays_for_every_frame_of_every_link() -> None:
    """d0 has a link to d1 only, d1 to d2; d2 alone holds the last unit."""
    links = [LinkEntry("d0", "d1", 1e6, 0.010), LinkEntry("d1", "d2", 2e6, 0.020)]
    faults = [FaultEntry(0.0, d, "reallocate", units=u) for d, u in (("d0", [0]), ("d1", []), ("d2", [1]))]
    world = checked(
        fleet(
            devices=3,
            units=2,
            links=links,
            faults=faults,
            nbytes=40_000,
            arrivals=[ArrivalsEntry("gate", "periodic", rate_hz=0.5, count=3)],
        )  # fmt: skip
    )
    there_s, back_s = 40_000 / 1e6 + 40_000 / 2e6 + 0.030, 40 / 1e6 + 40 / 2e6 + 0.030
    asking_s = 2 * 0.030 - UNIT_S  # RTC and CTC cross both links while the first unit computes
    latencies = [r.ended_at - r.submitted_at for r in world.clients["gate"].records.values() if r.ended_at]
    assert latencies == pytest.approx([2 * UNIT_S + asking_s + there_s + back_s + BROKER_S] * 3, abs=1e-3)


def test_batches_take_what_the_table_says_and_bring_more_works_home_in_the_same_time() -> None:
    """A backlog on one device: with engines for batches of 4 that take twice a single one's time, twice the works."""
    scenario = fleet(devices=1, units=1, arrivals=[ArrivalsEntry("gate", "backlog", count=40, window=12)])
    batched = msgspec.structs.replace(scenario.model[0], batch_seconds={"board": {"4": [2 * UNIT_S]}})
    plain, quick = checked(scenario), checked(msgspec.structs.replace(scenario, model=[batched]))
    assert counts(plain) == counts(quick) == [40, 40, 0, 0, 0, 0]
    busy_s = [world.machines["d0"].busy_s for world in (plain, quick)]
    assert busy_s[0] == pytest.approx(40 * UNIT_S)
    assert busy_s[1] <= 0.65 * busy_s[0]


def test_priority_helps_the_urgent_source_under_load() -> None:
    load = [ArrivalsEntry("gate", rate_hz=10.0, count=120), ArrivalsEntry("yard", rate_hz=14.0, count=160)]
    scenario = fleet(sources=[GATE, YARD], arrivals=load)
    ours, plain = figures(checked(scenario)), figures(checked(scenario, "ms-mdi"))
    assert ours["gate"]["mean_s"] < 0.8 * plain["gate"]["mean_s"]
    assert ours["gate"]["answered"] + ours["yard"]["answered"] == 280


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("residents", ["all", "plan"])
def test_every_policy_answers_everything(policy: str, residents: str) -> None:
    world = checked(fleet(sources=[GATE, YARD], residents=residents), policy)
    assert [counts(world, "gate"), counts(world, "yard")] == [[10, 10, 0, 0, 0, 0]] * 2


def test_ar_mdi_follows_the_controllers_chain() -> None:
    world = checked(fleet(devices=2, units=4), "ar-mdi")
    path = world.clients["gate"].records["0"].end
    assert path is not None and [visit.device for visit in path.path] == ["d0", "d0", "d1", "d1"]


def test_the_same_seed_is_the_same_document_and_another_seed_is_not() -> None:
    scenario = fleet(
        sources=[GATE, YARD], jitter=0.1, policies=["pa-mdi", "ms-mdi"], faults=[FaultEntry(0.5, "d2", "crash")]
    )
    first, again, other = (_document(simulate(scenario, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def _document(runs: List[Run]) -> Dict[str, Any]:
    document = document_of(runs, 1.0)
    del document["events_per_second"]
    return document


FAULTS = {
    "a device crashes and comes back": [FaultEntry(0.5, "d2", "crash", for_s=1.0)],
    "a device crashes for ever": [FaultEntry(0.5, "d2", "crash")],
    "the head crashes and comes back": [FaultEntry(0.5, "d0", "crash", for_s=0.7)],
    "all crash at once": [FaultEntry(0.5, f"d{i}", "restart") for i in range(3)],
    "a head restarts at once": [FaultEntry(0.5, "d0", "restart")],
    "the head is cut off": [FaultEntry(0.5, "d0", "partition", with_=["d1", "d2"], for_s=3.0)],
    "a cut that nobody notices": [FaultEntry(0.5, "d0", "partition", with_=["d1", "d2"], for_s=0.3)],
    "a device is slow": [FaultEntry(0.5, "d1", "slow", factor=20.0, for_s=2.0)],
    "links are slow": [FaultEntry(0.5, "d0", "link_rate", factor=0.02, for_s=2.0)],
    "units leave": [FaultEntry(0.5, "d0", "reallocate", units=[0], for_s=1.0)],
    "a device is emptied": [FaultEntry(0.5, "d2", "drain", for_s=1.0)],
}


@pytest.mark.parametrize("what", sorted(FAULTS))
def test_nothing_is_lost_and_nothing_answered_twice_when(what: str) -> None:
    load = [ArrivalsEntry("gate", rate_hz=10.0, count=20), ArrivalsEntry("yard", rate_hz=15.0, count=30)]
    world = checked(fleet(sources=[GATE, YARD], arrivals=load, faults=FAULTS[what]))
    assert (counts(world, "gate"), counts(world, "yard")) == ([20, 20, 0, 0, 0, 0], [30, 30, 0, 0, 0, 0])


def test_a_device_on_the_way_crashes_and_the_others_find_each_other_again() -> None:
    chain = [LinkEntry(f"d{i}", f"d{i + 1}", 2.5e6, 0.002) for i in range(3)]
    load = [ArrivalsEntry("gate", rate_hz=12.0, count=30), ArrivalsEntry("yard", rate_hz=12.0, count=30)]
    yard = msgspec.structs.replace(YARD, device="d3")
    crash = [FaultEntry(0.5, "d1", "crash", for_s=1.0)]
    world = checked(fleet(devices=4, links=chain, sources=[GATE, yard], arrivals=load, faults=crash))
    assert (counts(world, "gate"), counts(world, "yard")) == ([30, 30, 0, 0, 0, 0], [30, 30, 0, 0, 0, 0])


def test_a_shared_medium_is_slower_than_links_of_its_own_and_its_use_is_shown() -> None:
    load = [ArrivalsEntry("gate", rate_hz=20.0, count=60)]
    own, shared = (
        simulate(fleet(arrivals=load, nbytes=100_000, medium=medium))[0] for medium in (None, "wifi")
    )  # fmt: skip
    assert own.media == {} and 0 < shared.media["wifi"] < 1
    assert shared.media["wifi"] == pytest.approx(sum(shared.links.values()))
    assert (shared.sources["gate"].mean_s or 0) > (own.sources["gate"].mean_s or 0)


def test_duration_s_stops_the_run_with_works_open() -> None:
    scenario = fleet(arrivals=[ArrivalsEntry("gate", "backlog", window=5)], duration_s=2.0)
    run = simulate(scenario)[0]
    assert (run.span_s, run.open["gate"], run.sources["gate"].lost) == (2.0, 5, 0)
    assert 2.0 < sum(run.devices.values()) <= 3.0


def test_a_queue_that_is_full_refuses_and_what_was_admitted_is_answered() -> None:
    source = msgspec.structs.replace(GATE, queue_works_max=5)
    world = checked(fleet(devices=1, sources=[source], arrivals=[ArrivalsEntry("gate", rate_hz=1000.0, count=40)]))
    answered, failed, refused, lost = counts(world)[1:5]
    assert (answered + refused, failed, lost) == (40, 0, 0) and answered >= 5 < refused
