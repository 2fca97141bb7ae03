"""Which connection hears a source: one, and the right one, whatever sources come and go."""

from typing import Callable, Dict, List, Set, Tuple

from pamdi.core.topics import Topics
from pamdi.daemon.lanes import Lanes


class Lane:
    """What a connection is subscribed to, and the order in which that came about."""

    def __init__(self, name: str, said: List[Tuple[str, str, str]]) -> None:
        self._name, self._said = name, said
        self.topics: Set[str] = set()
        self._then: Dict[str, Callable[[], None]] = {}

    def subscribe(self, topic: str, then: Callable[[], None]) -> None:
        self._said.append((self._name, "ask", topic))
        self._then[topic] = then

    def unsubscribe(self, topic: str) -> None:
        self._then.pop(topic, None)
        if topic in self.topics:
            self._said.append((self._name, "close", topic))
            self.topics.remove(topic)

    def answer(self) -> None:
        """The broker has what was asked of it."""
        while self._then:
            topic, then = self._then.popitem()
            self._said.append((self._name, "open", topic))
            self.topics.add(topic)
            then()


def made() -> "tuple[Lanes, Lane, Lane, List[Tuple[str, str, str]]]":
    said: List[Tuple[str, str, str]] = []
    normal, urgent = Lane("normal", said), Lane("urgent", said)
    return Lanes(normal, urgent, Topics("p")), normal, urgent, said  # type: ignore[arg-type]


def topics(*sources: str) -> Set[str]:
    return {f"p/source/{source}/{leaf}" for source in sources for leaf in ("submit", "cancel")}


def test_a_source_is_heard_on_one_lane_even_when_its_class_becomes_the_higher_one() -> None:
    lanes, normal, urgent, said = made()
    lanes.obey({"gate": False})  # alone, it is the lowest class
    normal.answer()
    lanes.obey({"gate": True, "yard": False})
    normal.answer()
    assert normal.topics == topics("gate", "yard")  # however long the other connection takes
    urgent.answer()
    assert (normal.topics, urgent.topics) == (topics("yard"), topics("gate"))
    submit = [(name, what) for name, what, topic in said if topic == "p/source/gate/submit" and what != "ask"]
    assert submit == [("normal", "open"), ("urgent", "open"), ("normal", "close")]  # never nobody


def test_a_source_that_comes_back_before_the_other_lane_was_open_stays() -> None:
    lanes, normal, urgent, _ = made()
    for is_urgent in (False, True, False):
        lanes.obey({"gate": is_urgent})
        normal.answer()
    urgent.answer()
    assert (normal.topics, urgent.topics) == (topics("gate"), set())


def test_a_source_that_has_another_head_is_heard_no_more_not_even_if_it_was_about_to_change_lanes() -> None:
    lanes, normal, urgent, _ = made()
    lanes.obey({"gate": True, "yard": False})
    urgent.answer()
    normal.answer()
    lanes.obey({"gate": False, "yard": False})
    lanes.obey({"yard": False})
    urgent.answer()
    normal.answer()
    assert (normal.topics, urgent.topics) == (topics("yard"), set())


def test_obeying_the_same_twice_says_nothing() -> None:
    lanes, _, _, said = made()
    lanes.obey({"gate": True})
    count = len(said)
    lanes.obey({"gate": True})
    assert len(said) == count
