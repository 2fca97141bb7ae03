"""Works that kill devices: whether by being computed or by arriving, they end before they have killed for ever."""

from typing import List

from pamdi.core import events as ev
from pamdi.core import messages as ms
from pamdi.core.limits import Limits
from pamdi.core.work import WorkId
from tests.core.lone import Lone, key
from tests.core.test_plays import ends
from tests.core.world import World
from tests.core.world_settings import Settings

POISON = WorkId("gate", "poison")


def world(devices: int = 4) -> World:
    """d0 holds nothing, so that every work must leave it."""
    residents = {"d0": [], **{f"d{i}": [0, 1, 2, 3] for i in range(1, devices)}}
    made = World(Settings(devices=devices, residents=residents), seed=1)
    made.run(0.5)
    return made


def killing_who_hears_it(w: World) -> List[str]:
    """Whoever receives the tensor of POISON dies at once, with no word, and is back half a second later."""
    died: List[str] = []
    feed = w.feed

    def hear(id: str, event: ev.AnyEvent) -> None:
        tensor = event.message if isinstance(event, ev.Received) else None
        if isinstance(tensor, ms.Tensor) and tensor.work.key.work == POISON:
            died.append(id)
            w.crash(id)
            w.after(0.5, lambda: None if id in w.devices else w.start(id))
        else:
            feed(id, event)

    w.feed = hear  # type: ignore[method-assign]
    return died


def test_an_input_that_kills_devices_does_not_kill_them_all() -> None:
    w = world(devices=5)
    w.submit("gate", "poison")
    for _ in range(400):
        w.run(w.now + 0.05)
        for id, running in list(w.running.items()):
            if running is not None and id in w.devices:
                w.crash(id)
                w.after(0.5, lambda id=id: None if id in w.devices else w.start(id))  # type: ignore[misc]
        if w.records[POISON].ends:
            break
    assert ends(w, "gate", "poison")[0] == "failed:attempts"


def test_a_tensor_that_kills_whoever_hears_it_does_not_do_so_for_ever_and_the_others_are_answered() -> None:
    w = world()
    died = killing_who_hears_it(w)
    for i in range(20):
        w.submit("yard", str(i))
    w.submit("gate", "poison")
    w.run(60.0)
    assert ends(w, "gate", "poison") == ["failed:attempts"] and len(died) == Limits().attempts_total_max
    w.check_ends()
    assert len(w.latencies("yard")) == 20


def far() -> Lone:
    """Only d1 can run the work, and three deaths are enough."""
    stage = Lone(units=(), limits=Limits(attempts_total_max=3))
    stage.offers("d1", 0, 1, 2, 3)
    stage.submit("a")
    return stage


def lost(stage: Lone, life: int) -> None:
    """The link goes down while the tensor is on its way, and comes up with d1 in that life."""
    stage.receive("d1", ms.Ctc(key("a"), 1.0))
    assert stage.place(key("a")) == "sent"
    stage.feed(ev.LinkDown("d1"))
    stage.now += 0.1
    stage.feed(ev.LinkUp("d1", life))
    stage.offers("d1", 0, 1, 2, 3)


def test_a_link_that_flaps_is_no_death_however_often() -> None:
    stage = far()
    for _ in range(20):
        lost(stage, 1)
    assert stage.place(key("a")) == "asking"


def test_each_death_counts_once_whether_it_was_heard_of_before_the_next_life_or_not() -> None:
    stage = far()
    stage.receive("d1", ms.Ctc(key("a"), 1.0))
    stage.feed(ev.LinkDown("d1"))
    stage.feed(ev.PeerState("d1", "offline"))
    stage.feed(ev.LinkUp("d1", 2))  # the same death
    stage.offers("d1", 0, 1, 2, 3)
    lost(stage, 3)
    assert stage.place(key("a")) == "asking"
    lost(stage, 4)
    assert stage.place(key("a")) == "nowhere"
