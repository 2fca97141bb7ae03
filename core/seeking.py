"""Works that wait to be placed, in groups whose members are equal but for their age.

All works of one class at one boundary of one model have the same candidates: if the first of a group finds nobody,
none of the group does. So a placement round looks at one work per group, however long the queues are.
"""

from bisect import insort
from typing import Dict, Iterator, List, NamedTuple, Tuple

from pamdi.core.holdings import Held
from pamdi.core.work import Key


class Group(NamedTuple):
    model: str
    boundary: int
    urgency: float
    source: str


class Seeking:
    def __init__(self) -> None:
        self._groups: Dict[Group, List[Tuple[float, Key]]] = {}
        self._where: Dict[Key, Tuple[Group, float]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def add(self, held: Held, urgency: float) -> None:
        group = Group(held.model, held.key.boundary, urgency, held.key.source)
        insort(self._groups.setdefault(group, []), (held.born, held.key))
        self._where[held.key] = (group, held.born)

    def discard(self, key: Key) -> None:
        if key not in self._where:
            return
        group, born = self._where.pop(key)
        members = self._groups[group]
        members.remove((born, key))
        if not members:
            del self._groups[group]

    def fronts(self, youngest_first: bool) -> Iterator[Tuple[Group, Key]]:
        """The first work of each group."""
        index = -1 if youngest_first else 0
        return iter([(group, members[index][1]) for group, members in self._groups.items()])
