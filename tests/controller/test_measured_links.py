"""When a link counts as another than stated, and what the fleet that is planned for is then."""

from pathlib import Path
from typing import Any, Dict, List, Optional

import msgspec
import pytest

from pamdi.client.device_stats import DeviceStats, Probed, Recent
from pamdi.controller.fleet import LinkEntry, MeshEntry
from pamdi.controller.kept import Kept, KeptFile, KeptLink
from pamdi.controller.measured_links import Figures, MeasuredLinks, Stated, stated_by, tensor_bytes, with_measured
from pamdi.controller.network import Network
from pamdi.controller.slowed import Terms
from tests.controller.fleets import fleet, net

TERMS = Terms(slow_factor=1.5, normal_factor=1.2, slow_delay_s=150.0, slow_forget_s=600.0)
STATED = Stated(Figures(1e6, 0.002), False)
GUESS = Stated(Figures(1e6, 0.002), True)
TENSOR_BYTES = 50_000  # 52 ms over the stated link
EVERY_S = 60.0


class Heard:
    """The link a -> b, told of once a minute."""

    def __init__(self, stated: Optional[Stated] = STATED, terms: Terms = TERMS) -> None:
        self.links, self.stated, self.terms, self.now, self.rounds = MeasuredLinks(), stated, terms, 0.0, 0
        self.changes: List[float] = []

    def says(self, rate: Optional[float], times: int = 1, delay_s: Optional[float] = 0.002, rounds: int = 6) -> "Heard":
        for _ in range(times):
            self.now += EVERY_S
            self.rounds += rounds
            found = {"b": Probed(recent=Recent(rate, delay_s, self.rounds))}
            if self.links.heard("a", found, self.state, TENSOR_BYTES, self.now, self.terms):
                self.changes.append(self.now)
        return self

    def state(self, a: str, b: str) -> Optional[Stated]:
        return self.stated

    def planned(self) -> Optional[Figures]:
        return self.links.planned(self.state).get(("a", "b"))


def test_a_slow_link_is_planned_with_after_the_delay_and_not_before() -> None:
    heard = Heard().says(1e6, 5).says(0.4e6, 3)
    assert (heard.changes, heard.planned()) == ([], None)
    heard.says(0.4e6)
    assert (heard.changes, heard.planned()) == ([540.0], Figures(0.4e6, 0.002))
    assert heard.links.conditions(heard.state) == [
        "link a -> b carries 0.4 MB/s, 2 ms, [[link]] or [[mesh]] states 1 MB/s, 2 ms, and is planned with so: look at "
        "the network, or state what `pamdi calibrate links` finds"
    ]


def test_a_flicker_begins_the_delay_anew() -> None:
    heard = Heard()
    for _ in range(10):
        heard.says(0.4e6, 3).says(0.9e6)
    assert (heard.changes, heard.planned()) == ([], None)


def test_between_the_two_lines_nothing_changes_and_below_the_lower_one_it_is_as_stated() -> None:
    heard = Heard().says(0.6e6, 4).says(0.75e6, 20)
    assert (len(heard.changes), heard.planned()) == (1, Figures(0.6e6, 0.002))
    heard.says(0.9e6, 4)
    assert (len(heard.changes), heard.planned(), heard.links.conditions(heard.state)) == (2, None, [])


def test_what_becomes_much_better_though_not_well_is_planned_with_anew() -> None:
    heard = Heard().says(0.1e6, 4).says(0.5e6, 4)
    assert (len(heard.changes), heard.planned()) == (2, Figures(0.5e6, 0.002))


def test_delay_counts_as_well() -> None:
    assert Heard().says(1e6, 4, delay_s=0.1).planned() == Figures(1e6, 0.1)


def test_a_link_that_is_stated_is_never_planned_with_as_faster() -> None:
    heard = Heard().says(100e6, 20)
    assert (heard.changes, heard.planned()) == ([], None)


def test_what_was_a_guess_is_replaced_by_what_is_measured_faster_or_slower() -> None:
    assert Heard(GUESS).says(100e6, 4).planned() == Figures(100e6, 0.002)
    slow = Heard(GUESS).says(0.1e6, 4)
    assert slow.planned() == Figures(0.1e6, 0.002)
    (line,) = slow.links.conditions(slow.state)
    assert line.startswith("link a -> b carries 0.1 MB/s, 2 ms, not the 1 MB/s, 2 ms of links that no [[link]] names")
    slow.says(2e6, 4)
    assert (slow.planned(), len(slow.changes)) == (Figures(2e6, 0.002), 2)


def test_a_good_guess_is_replaced_without_a_new_plan() -> None:
    heard = Heard(GUESS).says(0.9e6, 4)
    assert (heard.planned(), heard.changes, heard.links.conditions(heard.state)) == (Figures(0.9e6, 0.002), [], [])


def test_a_link_that_is_never_idle_tells_its_rate_and_keeps_its_delay() -> None:
    assert Heard().says(0.4e6, 4, delay_s=None).planned() == Figures(0.4e6, 0.002)


def test_without_new_rounds_nothing_is_said_and_after_a_long_silence_the_link_is_as_stated() -> None:
    assert Heard().says(0.4e6, 20, rounds=0).changes == []
    heard = Heard().says(0.4e6, 4).says(0.4e6, 5, rounds=0)
    ages = [heard.links.age(heard.now + wait_s, TERMS) for wait_s in (0.0, 299.0, 300.0, 302.0)]
    assert (ages, heard.planned()) == ([[], [], [("a", "b")], []], None)


def test_what_differs_by_less_than_timers_can_tell_does_not_count() -> None:
    fast = Stated(Figures(1e9, 0.0001), False)
    assert Heard(fast).says(0.1e9, 20, delay_s=0.0002).planned() is None


def test_a_link_that_is_stated_anew_is_as_stated_and_one_that_is_not_to_be_measured_is_left() -> None:
    heard = Heard().says(0.4e6, 4)
    heard.stated = Stated(Figures(0.5e6, 0.002), False)
    assert heard.planned() is None
    assert Heard(None).says(0.4e6, 20).planned() is None


def test_nonsense_counts_for_nothing_and_a_factor_of_zero_switches_it_off() -> None:
    for rate, delay_s in ((float("nan"), 0.0), (-1.0, 0.0), (0.0, 0.0), (1e5, -1.0), (1e5, float("inf")), (None, 0.0)):
        assert Heard().says(rate, 10, delay_s).planned() is None
    off = TERMS._replace(slow_factor=0.0)
    assert Heard(terms=off).says(0.1e6, 10).changes == []
    heard = Heard().says(0.4e6, 4)
    assert heard.links.age(heard.now, off) == [("a", "b")] and heard.planned() is None


def test_another_life_of_the_controller_knows_what_is_not_as_stated_and_waits_as_long_for_news(tmp_path: Path) -> None:
    heard = Heard().says(0.4e6, 4)
    known = heard.links.kept()
    assert known == (KeptLink("a", "b", 0.4e6, 0.002, 1e6, 0.002),)
    file = KeptFile(tmp_path)
    assert file.write(Kept(3, ("d1",), known)) and file.read() == Kept(3, ("d1",), known)
    heard.links = MeasuredLinks(file.read().links)
    assert heard.planned() == Figures(0.4e6, 0.002) and len(heard.links.conditions(heard.state)) == 1
    ages = [heard.links.age(at, TERMS) for at in (1000.0, 1599.0, 1600.0)]
    assert (ages, heard.links.kept()) == ([[], [], [("a", "b")]], ())
    assert Heard(GUESS).says(0.9e6, 4).links.kept() == ()


def test_a_device_at_another_address_has_other_links() -> None:
    heard = Heard().says(0.4e6, 4)
    heard.links.elsewhere("b")
    assert heard.planned() is None


def test_what_is_stated_is_a_link_or_a_mesh_else_the_guess_and_media_are_left_out() -> None:
    links = [LinkEntry("d0", "d1", 2e6, 0.003, one_way=True), LinkEntry("d0", "d2", 3e6, medium="wifi")]
    network = Network(fleet([1, 1, 1], links=links, mesh=False))
    state = stated_by(network, (9e6, 0.001))
    asked = [state("d0", "d1"), state("d1", "d0"), state("d0", "d2"), state("d1", "d1")]
    assert asked == [Stated(Figures(2e6, 0.003), False), Stated(Figures(9e6, 0.001), True), None, None]
    assert stated_by(network, None)("d1", "d0") is None


def test_the_fleet_has_a_one_way_link_for_each_that_is_measured_and_keeps_the_others() -> None:
    both = LinkEntry("d0", "d1", 2e6, 0.003, fail_probability=0.1)
    before = msgspec.structs.replace(fleet([1, 1, 1], links=[both]), mesh=[MeshEntry("all", 1e6, 0.5)])
    planned = {("d0", "d1"): Figures(1e5, 0.01), ("d2", "d0"): Figures(2e5, 0.02), ("d0", "gone"): Figures(1.0, 1.0)}
    after = with_measured(before, planned)
    assert after.link == [
        LinkEntry("d1", "d0", 2e6, 0.003, fail_probability=0.1, one_way=True),
        LinkEntry("d0", "d1", 1e5, 0.01, fail_probability=0.1, one_way=True),
        LinkEntry("d2", "d0", 2e5, 0.02, one_way=True),
    ]
    assert with_measured(before, {}) is before


def test_a_pair_without_a_link_gets_none() -> None:
    lonely = fleet([1, 1], mesh=False)
    assert with_measured(lonely, {("d0", "d1"): Figures(1e5, 0.01)}) is lonely


def test_a_tensor_is_the_mean_of_what_crosses_boundaries() -> None:
    model = msgspec.structs.replace(net(3), bytes=[10**9, 4000, 2000, 8])
    assert (tensor_bytes([model]), tensor_bytes([])) == (3000, 1024)


@pytest.mark.parametrize(
    "probes, recent",
    [({"b": {"rounds": 3}}, Recent()), ({"b": {"recent": {"rate_bytes_per_s": 5, "new": 1}}}, Recent(5.0))],
)
def test_an_older_and_a_newer_devices_words_are_read(probes: Dict[str, Any], recent: Recent) -> None:
    stats = msgspec.json.decode(msgspec.json.encode({"probes": probes, "counters": {}}), type=DeviceStats)
    assert stats.probes["b"].recent == recent
