"""What the live controller asks of the solver for large fleets: ways over what is held, quickly or well."""

from typing import Callable, Dict, FrozenSet, List, Tuple

import msgspec
import pytest

from pamdi.controller.fleet import Fleet, LinkEntry, MeshEntry, Unit
from pamdi.controller.objective import evaluate
from pamdi.controller.residents import choose
from pamdi.controller.solver.live_large import near_routes, placed, searched_routes
from pamdi.core.allocation import Route, RouteVisit
from tests.controller.fleets import fleet, gate, yard
from tests.controller.solver.many import many

Ways = Dict[str, Tuple[Route, ...]]


def meshed(seed: int) -> Fleet:
    return msgspec.structs.replace(many(seed), mesh=[MeshEntry("all", 5e6, 0.001)])


def visited(wanted: Fleet, routes: Ways) -> List[Tuple[str, Unit]]:
    models = {source.id: source.model for source in wanted.source}
    return [(v.device, (models[id], v.first)) for id, ways in routes.items() for way in ways for v in way.visits]


def check(wanted: Fleet, routes: Ways, holds: Dict[str, FrozenSet[Unit]]) -> None:
    """Single units, held where they are visited, all of every source's works."""
    assert set(routes) == {source.id for source in wanted.source}
    assert all(v.stop == v.first + 1 for ways in routes.values() for way in ways for v in way.visits)
    assert all(unit in holds[device] for device, unit in visited(wanted, routes))
    assert [sum(way.fraction for way in ways) for ways in routes.values()] == pytest.approx([1.0] * len(routes))


@pytest.mark.parametrize("make", [many, meshed])
def test_better_routes_go_over_what_is_held_and_cost_less(make: Callable[[int], Fleet]) -> None:
    gains = []
    for seed in range(3):
        wanted = make(seed)
        holds = choose(wanted, {}).holds
        first = near_routes(wanted, holds, {})
        check(wanted, first, holds)
        better = searched_routes(wanted, holds, first)
        check(wanted, better, holds)
        assert searched_routes(wanted, holds, first) == better  # the same input, the same plan
        before, after = evaluate(wanted, first).objective, evaluate(wanted, better).objective
        assert after <= before
        gains.append(1 - after / before)
    assert max(gains) > 0.1, gains


def test_a_source_goes_on_as_it_went_where_it_still_can() -> None:
    wanted = many(1)
    holds = choose(wanted, {}).holds
    before = searched_routes(wanted, holds, near_routes(wanted, holds, {}))
    assert near_routes(wanted, holds, before) == before
    lost = before["s03"][0].visits[-1]
    model = next(source.model for source in wanted.source if source.id == "s03")
    fewer = {**holds, lost.device: holds[lost.device] - {(model, lost.first)}}
    after = near_routes(wanted, fewer, before)
    check(wanted, after, fewer)
    touched = {id for id in before if (lost.device, (model, lost.first)) in visited(wanted, {id: before[id]})}
    assert {id for id in before if after[id] != before[id]} == touched
    assert "s03" in touched


def test_who_finds_no_way_around_it_looks_further_and_is_left_out_only_where_there_is_none() -> None:
    """A chain of forty devices; the model's last unit is at its far end."""
    links = [LinkEntry(f"d{i}", f"d{i + 1}", 1e6, 0.001) for i in range(39)]
    wanted = fleet([400] * 40, [gate("d0"), yard("d39")], links=links, mesh=False)
    net = [("net", u) for u in range(4)]
    holds = {f"d{i}": frozenset[Unit]() for i in range(40)}
    holds.update(d0=frozenset(net[:3]), d39=frozenset(net[3:]))
    routes = near_routes(wanted, holds, {})
    check(wanted, routes, holds)
    ends = tuple(RouteVisit(u, u + 1, "d0" if u < 3 else "d39") for u in range(4))
    assert routes["gate"] == (Route(1.0, routes["gate"][0].latency_s, ends),)
    cut = msgspec.structs.replace(wanted, link=[link for link in links if link.from_ != "d20"])
    assert near_routes(cut, holds, {}) == {}


def test_placed_says_what_its_routes_need_and_gives_closed_devices_nothing() -> None:
    wanted = many(2)
    found, again = (placed(wanted, frozenset({"d00", "d01"})) for _ in range(2))
    assert found is not None and found == again
    check(wanted, found.routes, found.holds)
    assert set(visited(wanted, found.routes)) == {(id, unit) for id, units in found.holds.items() for unit in units}
    assert not {"d00", "d01"} & set(found.holds)
    assert placed(many(2, memory=0.2), frozenset()) is None


def test_where_nobody_can_be_served_nothing_is_looked_for() -> None:
    nobody = msgspec.structs.replace(many(2), source=[])
    assert (near_routes(nobody, {}, {}), searched_routes(nobody, {}, {}), placed(nobody, frozenset())) == ({}, {}, None)
