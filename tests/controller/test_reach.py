"""Whom a device is told it can talk to, and how: the path with the fewest links, by way of the devices between."""

from typing import Dict, List

import pytest

from pamdi.controller import reach
from pamdi.controller.fleet import DeviceEntry, LinkEntry
from pamdi.controller.network import Network
from pamdi.controller.reach import TUNNELS_ALL_DEVICES_MAX, Ground, Neighbourhood, neighbours_of, who_needs_a_tunnel
from pamdi.core.allocation import DeviceInfo, Neighbour, Route, RouteVisit
from tests.controller.fleets import fleet, wanted


def infos(count: int, **planes: str) -> Dict[str, DeviceInfo]:
    return {
        f"d{i}": DeviceInfo(f"d{i}", "board", 1, 1, f"host{i}", i, "stub", data_plane=planes.get(f"d{i}", "link"))
        for i in range(count)
    }


def chain(*links: LinkEntry) -> Network:
    return Network(fleet([1] * 4, links=list(links), mesh=False))


def line(*more: LinkEntry) -> Network:
    return chain(*(LinkEntry(f"d{i}", f"d{i + 1}", 1e6, 0.001) for i in range(3)), *more)


def test_who_has_no_direct_link_is_reached_over_the_devices_between_whose_links_times_add_up() -> None:
    assert neighbours_of("d0", line(), infos(4), None) == (
        Neighbour("d1", "host1", 1, 1e6, 0.001),
        Neighbour("d2", "host2", 2, 1 / (2 * 1e-6), 0.002, ("d1",)),
        Neighbour("d3", "host3", 3, 1 / sum([1e-6] * 3), 0.003, ("d1", "d2")),
    )


def test_the_way_with_the_fewest_links_is_taken_though_another_is_quicker() -> None:
    found = {n.id: n.via for n in neighbours_of("d0", line(LinkEntry("d0", "d2", 1e3, 1.0)), infos(4), None)}
    assert found == {"d1": (), "d2": (), "d3": ("d2",)}


def test_who_cannot_be_dialled_is_reached_over_the_broker_from_both_sides() -> None:
    for me in ("d0", "d3"):
        found = {n.id: (n.via, n.plane) for n in neighbours_of(me, line(), infos(4, d3="mqtt"), None)}
        assert all((plane == "mqtt") == ("d3" in (me, id)) for id, (_, plane) in found.items())
        assert all(via == () for via, plane in found.values() if plane == "mqtt")


def test_who_is_not_there_or_has_no_way_back_is_no_neighbour() -> None:
    one_way = chain(LinkEntry("d0", "d1", 1e6, 0.001), LinkEntry("d1", "d2", 1e6, 0.001, one_way=True))
    assert [n.id for n in neighbours_of("d0", one_way, infos(3), None)] == ["d1"]
    assert [n.id for n in neighbours_of("d0", line(), {"d0": infos(1)["d0"]}, None)] == []


def test_a_large_fleet_has_tunnels_between_heads_and_all_and_along_routes() -> None:
    small, large = ([f"d{i}" for i in range(count)] for count in (TUNNELS_ALL_DEVICES_MAX, TUNNELS_ALL_DEVICES_MAX + 1))
    visits = (RouteVisit(0, 1, "d1"), RouteVisit(1, 2, "d5"), RouteVisit(2, 3, "d5"), RouteVisit(3, 4, "d7"))
    routes = {"gate": (Route(1.0, 0.1, visits),)}
    assert who_needs_a_tunnel(small, frozenset({"d1"}), routes) is None
    wanted = frozenset({frozenset(("d1", id)) for id in large if id != "d1"} | {frozenset(("d5", "d7"))})
    tunnels = who_needs_a_tunnel(large, frozenset({"d1"}), routes) or {}
    assert {frozenset((a, b)) for a, others in tunnels.items() for b in others if a != b} == wanted
    assert all(a in tunnels[b] for a, others in tunnels.items() for b in others)


def test_neighbours_are_looked_up_a_part_a_call_and_begun_anew_when_others_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reach, "STEPS_MAX", 5)
    grounds = [Ground(wanted(), [DeviceEntry(f"d{i}", "board", 400) for i in range(count)], {}) for count in (8, 7)]
    whole = [{id: neighbours_of(id, g.network(), infos(8), None) for id in infos(8)} for g in grounds]
    seen = Neighbourhood()

    def calls(ground: Ground) -> List[bool]:
        """Whether each call was the last."""
        found: List[bool] = []
        while not found or not found[-1]:
            found.append(seen.of_all(ground, infos(8), None) is not None)
        return found

    assert calls(grounds[0]) == [False] * 7 + [True] and seen.of_all(grounds[0], infos(8), None) == whole[0]
    assert seen.of_all(grounds[1], infos(8), None) is None
    assert seen.of_all(grounds[0], infos(8), None) is None
    assert seen.of_all(grounds[1], infos(8), None) is None
    assert seen.of_all(grounds[0], infos(8), None) == whole[0]  # not for ever
    assert calls(grounds[1])[-1] and seen.of_all(grounds[1], infos(8), None) == whole[1]
