"""What ``as-if-alone`` does that ``pa-mdi`` does not, one play per step: a device, what it hears, whom it asks."""

from typing import Dict, List, Sequence, Tuple

import pytest

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.allocation import DeviceAllocation, ModelSpec, Neighbour, Resident, SourceSpec
from pamdi.core.device import Device
from pamdi.core.segment import Segment
from pamdi.core.work import Key, WorkId

SOURCES = (SourceSpec("gate", "net", "d0", gamma=10.0), SourceSpec("yard", "net", "d0"))
Said = List[ins.AnyInstruction]


def device(policy: str, here: Sequence[float], peers: Dict[str, Sequence[float]], nbytes: int = 1000) -> Device:
    """``d0`` with one segment per entry of ``here`` (seconds; none for 0), and neighbours alike, over 1 MB/s."""
    made = Device("d0")
    residents = tuple(Resident("net", u, u + 1, "", s) for u, s in enumerate(here) if s)
    allocation = DeviceAllocation(
        1, policy, residents, SOURCES, (ModelSpec("net", (*[nbytes] * len(here), 4)),), {},
        tuple(Neighbour(id, "", 0, 1e6, 0.001) for id in peers),
    )  # fmt: skip
    made.handle(ev.AllocationReceived(allocation), 0.0)
    for resident in residents:
        made.handle(ev.EngineLoaded(resident.segment), 0.0)
    for id, seconds in peers.items():
        made.handle(ev.LinkUp(id, 1), 0.0)
        ready = tuple(ms.ReadySegment("net", u, u + 1, s) for u, s in enumerate(seconds) if s)
        made.handle(ev.Received(id, ms.Beacon(id, ready), None, 0, 0.0), 0.0)
    return made


def submit(made: Device, source: str, id: str, now: float, nbytes: int = 1000) -> Said:
    work = WorkId(source, id)
    return made.handle(ev.Submitted(work, id, id, nbytes), now) + made.handle(ev.JournalWritten(work, False), now)


def asked(said: Said) -> List[Tuple[str, str]]:
    return [(i.peer, i.message.key.id) for i in said if isinstance(i, ins.Send) and isinstance(i.message, ms.Rtc)]


def started(said: Said) -> List[str]:
    return [i.key.id for i in said if isinstance(i, ins.Infer)]


@pytest.mark.parametrize(("policy", "to"), [("pa-mdi", "d1"), ("as-if-alone", "d2")])
def test_a_worker_that_is_fast_for_all_that_is_left_beats_one_that_is_fast_for_the_next_segment(
    policy: str, to: str
) -> None:
    made = device(policy, [0.0, 0.0, 0.0], {"d1": [0.01, 0.5, 0.5], "d2": [0.02, 0.02, 0.02]}, nbytes=300_000)
    assert asked(submit(made, "gate", "a", 1.0, 300_000)) == [(to, "a")]


@pytest.mark.parametrize(("policy", "asks"), [("pa-mdi", [("d1", "d")]), ("as-if-alone", [])])
def test_a_work_waits_for_its_own_device_where_that_is_quicker_than_a_neighbour_who_has_room(
    policy: str, asks: List[Tuple[str, str]]
) -> None:
    made = device(policy, [0.1], {"d1": [0.1]}, nbytes=2_000_000)
    said = [i for n, id in enumerate("abcd") for i in submit(made, "gate", id, 1.0 + n / 1000, 2_000_000)]
    assert started(said) == ["a"] and asked(said) == asks


@pytest.mark.parametrize(("policy", "last"), [("pa-mdi", [("d3", "3")]), ("as-if-alone", [])])
def test_tensors_that_wait_for_our_own_radio_count_as_delay(policy: str, last: List[Tuple[str, str]]) -> None:
    made = device(policy, [0.6], {"d1": [0.1], "d2": [0.1], "d3": [0.1]}, nbytes=400_000)
    said = [asked(submit(made, "gate", str(n), 1.0 + n / 1000, 400_000)) for n in range(4)]
    assert said == [[("d1", "0")], [("d1", "1")], [("d2", "2")], last]  # 0.4 s each; our own device, idle, takes "0"


@pytest.mark.parametrize(("policy", "source", "to"), [
    ("pa-mdi", "yard", "d1"), ("as-if-alone", "gate", "d1"), ("as-if-alone", "yard", ""),
])  # fmt: skip
def test_only_the_highest_class_sends_over_a_slow_link_for_a_small_gain(policy: str, source: str, to: str) -> None:
    made = device(policy, [0.6], {"d1": [0.1]}, nbytes=300_000)  # 0.301 + 0.1 s there, 0.6 s here
    assert asked(submit(made, source, "a", 1.0, 300_000)) == ([(to, "a")] if to else [])


def promise(made: Device, now: float, nbytes: int) -> Said:
    rtc = ms.Rtc(Key("gate", "urgent", 0, 0, 0), "net", 10.0, nbytes, 0.1)
    return made.handle(ev.Received("d1", rtc, None, 0, 0.0), now)


@pytest.mark.parametrize(("policy", "begun"), [("pa-mdi", ["low"]), ("as-if-alone", [])])
def test_a_segment_stands_back_for_a_promised_urgent_tensor(policy: str, begun: List[str]) -> None:
    made = device(policy, [0.1], {"d1": [0.0]}, nbytes=20_000)
    promise(made, 1.0, 20_000)  # 20 kB at 1 MB/s: here in 21 ms
    assert started(submit(made, "yard", "low", 1.001)) == begun


def test_it_stands_back_for_a_moment_only() -> None:
    made = device("as-if-alone", [0.1], {"d1": [0.0]}, nbytes=20_000)
    promise(made, 1.0, 20_000)
    assert started(submit(made, "yard", "low", 1.001)) == []
    wake = made.wake_at()
    while wake is not None and wake < 1.0 + 0.021 + 0.0101:
        said = made.handle(ev.Woken(), wake)
        if started(said):
            break
        wake = made.wake_at()
    assert wake is not None and wake == pytest.approx(1.0 + 0.021 + 0.1 * 0.1)
    assert made.placing.compute.segment == Segment("net", 0, 1)


def test_it_does_not_stand_back_for_a_tensor_that_is_far_away() -> None:
    made = device("as-if-alone", [0.1], {"d1": [0.0]}, nbytes=200_000)
    promise(made, 1.0, 200_000)
    assert started(submit(made, "yard", "low", 1.001)) == ["low"]


def urgencies_told(said: Said) -> List[Dict[float, float]]:
    """By class, the seconds of each CTC or refusal that was said."""
    words = [i.message for i in said if isinstance(i, ins.Send) and isinstance(i.message, (ms.Ctc, ms.Refusal))]
    return [{entry.urgency: entry.seconds for entry in word.backlog.classes} for word in words]


@pytest.mark.parametrize(("policy", "told_s"), [("pa-mdi", 0.2), ("as-if-alone", 0.5)])
def test_others_hear_of_works_that_wait_here_for_a_place(policy: str, told_s: float) -> None:
    made = device(policy, [0.1], {"d1": [0.0]}, nbytes=20_000)
    for n in range(6):  # one runs, two are queued, three wait for a place
        submit(made, "yard", str(n), 1.0)
    assert urgencies_told(promise(made, 1.0, 20_000))[0][1.0] == pytest.approx(told_s)


@pytest.mark.parametrize("policy", ["pa-mdi", "as-if-alone"])
def test_an_idle_device_takes_its_own_work_although_its_room_is_promised_to_tensors_on_a_slow_link(policy: str) -> None:
    made = device(policy, [0.1], {"d1": [0.0]}, nbytes=2_000_000)
    for id in "xy":  # two of them are all the room of their class; they are 2 s and more away
        rtc = ms.Rtc(Key("yard", id, 0, 0, 0), "net", 1.0, 2_000_000, 0.1)
        made.handle(ev.Received("d1", rtc, None, 0, 0.0), 1.0)
    assert [started(submit(made, "yard", id, 1.001)) for id in "ab"] == [["a"], []]
    finished = made.handle(ev.Inferred(Key("yard", "a", 0, 0, 0), "answer", 4, 0.1), 1.101)
    assert started(finished) == ["b"]
