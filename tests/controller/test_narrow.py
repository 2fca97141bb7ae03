"""What is left out of a large fleet's documents: nothing that a device uses, and in a small fleet nothing at all."""

import random
from typing import Dict, Iterable, List, Optional, Tuple

import msgspec
import pytest

from pamdi.controller import narrow
from pamdi.controller.allocation import allocate, units_of
from pamdi.controller.documents import news, write_documents
from pamdi.controller.fleet import DeviceEntry, Fleet, LinkEntry, SourceEntry
from pamdi.controller.network import Network
from pamdi.controller.reach import Ground, Neighbourhood, who_needs_a_tunnel
from pamdi.controller.wanted import Wanted
from pamdi.core.allocation import SMALL_FLEET_DEVICES_MAX, DeviceAllocation, DeviceInfo, Neighbour, Plan
from pamdi.core.policy import POLICIES
from tests.controller.fleets import net, wanted

LARGE = 80


class NeighbourOfThen(msgspec.Struct, frozen=True):
    """As a daemon of before reads it."""

    id: str
    host: str
    port: int
    rate_bytes_per_s: float = 1e9
    delay_s: float = 0.0
    via: Tuple[str, ...] = ()
    plane: str = "link"


class DocumentOfThen(DeviceAllocation, frozen=True):
    neighbours: Tuple[NeighbourOfThen, ...] = ()  # type: ignore[assignment]


class Told:
    """A random fleet, its plan, and its documents."""

    def __init__(self, devices: int, seed: int, policy: str = "pa-mdi") -> None:
        drawn = random.Random(seed)
        ids = [f"d{n}" for n in range(devices)]
        links = [LinkEntry(ids[n - 1], id, 1e6 * (1 + n % 3), 0.001) for n, id in enumerate(ids) if n]
        for _ in range(2 * devices):
            a, b = drawn.sample(ids, 2)
            links.append(LinkEntry(a, b, 3e6, 0.002))
        sources = [
            SourceEntry(f"s{n}", drawn.choice(["net", "other"]), drawn.choice(ids), gamma=1.0 + n, rate_hz=9.0)
            for n in range(6)
        ]
        models, whole = [net(), net(3, "other")], policy in ("ddi", "local")
        self.wanted: Wanted = wanted(sources, models, links=tuple(links), default_link=None, policy=policy)
        self.boards = [DeviceEntry(id, "board", 700 if whole else drawn.choice([100, 300, 500])) for id in ids]
        self.infos = {id: self._info(id, "mqtt" if drawn.random() < 0.1 else "link") for id in ids}
        fleet: Fleet = self.wanted.fleet(self.boards)
        self.plan: Plan = allocate(fleet, policy=policy)
        self.documents = self._documents()

    def _info(self, id: str, plane: str) -> DeviceInfo:
        return DeviceInfo(id, "board", 500, 1, f"host-{id}", 7411, "stub", data_plane=plane)

    def _documents(self) -> Dict[str, DeviceAllocation]:
        written: Optional[Dict[str, DeviceAllocation]] = None
        ground, neighbourhood = Ground(self.wanted, self.boards, {}), Neighbourhood()
        while written is None:
            written = write_documents(
                ground, neighbourhood, units_of(self.plan), self.infos, self.plan.routes, self.plan.routes
            )
        return written

    def neighbours_then(self, id: str) -> Tuple[Neighbour, ...]:
        """As they were written before anything was left out."""
        network = Network(self.wanted.fleet(self.boards))
        heads = frozenset(source.device for source in self.wanted.sources)
        tunnels = who_needs_a_tunnel(self.infos, heads, self.plan.routes)
        others: Iterable[str] = set(self.infos) - {id}
        if tunnels is not None:
            others = set(others) & (set(network.beside(id)) | tunnels.get(id, set()))
        found = []
        for other in sorted(others):
            path = network.path(id, other)
            assert path
            plane = "mqtt" if "mqtt" in (self.infos[id].data_plane, self.infos[other].data_plane) else "link"
            rate = path[0].rate_bytes_per_s if len(path) == 1 else 1 / sum(1 / link.rate_bytes_per_s for link in path)
            via = () if plane == "mqtt" else tuple(link.b for link in path[:-1])
            delay_s = path[0].delay_s if len(path) == 1 else sum(link.delay_s for link in path)
            found.append(Neighbour(other, f"host-{other}", 7411, rate, delay_s, via, plane))
        return tuple(found)

    def as_then(self, id: str) -> DeviceAllocation:
        """The whole document."""
        return msgspec.structs.replace(
            self.documents[id], routes=dict(self.plan.routes), neighbours=self.neighbours_then(id)
        )


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_in_a_small_fleet_every_byte_is_as_it_was(policy: str) -> None:
    for devices, seed in ((12, 1), (SMALL_FLEET_DEVICES_MAX, 2)):
        told = Told(devices, seed, policy)
        for id, document in told.documents.items():
            assert msgspec.json.encode(document) == msgspec.json.encode(told.as_then(id))


@pytest.mark.parametrize("seed", range(4))
def test_a_daemon_of_before_reads_of_a_large_fleets_document_all_that_it_uses(seed: int) -> None:
    told = Told(LARGE, seed)
    bytes_then = bytes_now = 0
    for id, document in told.documents.items():
        written, whole = msgspec.json.encode(document), told.as_then(id)
        bytes_then += len(msgspec.json.encode(whole))
        bytes_now += len(written)
        read = msgspec.json.decode(written, type=DocumentOfThen)
        assert [_used(n) for n in read.neighbours] == [_used(n) for n in whole.neighbours]
        assert (read.policy, read.segments, read.sources, read.models) == (
            whole.policy, whole.segments, whole.sources, whole.models,
        )  # fmt: skip
        assert read.routes == {s: ways for s, ways in whole.routes.items() if _passes(told, s, id)}
        assert msgspec.json.decode(written, type=DeviceAllocation).routes == read.routes
        assert msgspec.json.decode(msgspec.json.encode(whole), type=DeviceAllocation) == whole
    assert bytes_now < bytes_then


def _used(neighbour: "Neighbour | NeighbourOfThen") -> List[object]:
    """What a device uses: whom a tunnel leads to is never dialled."""
    fields = list(msgspec.structs.astuple(neighbour))
    return [fields[0], *fields[3:]] if neighbour.via else fields


def _passes(told: Told, source: str, id: str) -> bool:
    head = next(s.device for s in told.wanted.sources if s.id == source)
    return id == head or any(visit.device == id for way in told.plan.routes[source] for visit in way.visits)


def test_where_works_are_bound_to_routes_every_device_is_told_all_of_them() -> None:
    told = Told(LARGE, 1, "ar-mdi")
    assert all(document.routes == told.plan.routes for document in told.documents.values())


def test_nobody_but_policies_that_bind_looks_at_routes() -> None:
    class Unread(Dict[str, object]):
        def get(self, *_: object) -> object:
            raise AssertionError("routes were looked at")

    free = [policy for policy in POLICIES.values() if not policy.binds]
    assert {policy.name for policy in free} == set(POLICIES) - {"ar-mdi", "ddi", "local"}
    for policy in free:
        assert policy.may_take(None, "d1", "d0", Unread())  # type: ignore[arg-type]


def test_an_epoch_is_told_to_everybody_in_a_small_fleet_and_in_a_large_one_to_whom_it_concerns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {id: DeviceAllocation(4) for id in ("a", "b")}
    documents = {"a": DeviceAllocation(0), "b": DeviceAllocation(0, policy="local"), "c": DeviceAllocation(0)}
    assert {id: document.epoch for id, document in news(documents, before, 5).items()} == {"a": 5, "b": 5, "c": 5}
    assert news({"a": DeviceAllocation(0)}, before, 5) == {}
    monkeypatch.setattr(narrow, "SMALL_FLEET_DEVICES_MAX", 2)
    assert news(documents, before, 5) == {"b": DeviceAllocation(5, policy="local"), "c": DeviceAllocation(5)}
