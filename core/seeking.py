"""Works that wait to be placed, in groups whose members are equal but for their age.

All works of one class at one boundary of one model have the same candidates: if the first of a group finds nobody,
none of the group does. So a placement round looks at one work per group, however long the queues are. A work that goes
on where it is needs no new slot here, and one that could not run here has other candidates: both are groups of their
own.
"""

from bisect import bisect_left, insort
from typing import Dict, List, Optional, Tuple

import msgspec

from pamdi.core.holdings import Held
from pamdi.core.work import Key


class Group(msgspec.Struct, frozen=True, gc=False):
    model: str
    boundary: int
    urgency: float
    source: str
    continuing: bool
    failed_here: bool


class Seeking:
    """``where``: every work that seeks, with its group and when it was born."""

    def __init__(self) -> None:
        self._groups: Dict[Group, List[Tuple[float, Key]]] = {}
        self.where: Dict[Key, Tuple[Group, float]] = {}

    def add(self, held: Held, urgency: float) -> None:
        group = Group(held.model, held.key.boundary, urgency, held.key.source, held.continuing, held.failed_here)
        insort(self._groups.setdefault(group, []), (held.born, held.key))
        self.where[held.key] = (group, held.born)

    def discard(self, key: Key) -> None:
        where = self.where.pop(key, None)
        if where is None:
            return
        group, born = where
        members = self._groups[group]
        del members[bisect_left(members, (born, key))]
        if not members:
            del self._groups[group]

    def groups(self) -> List[Group]:
        return list(self._groups)

    def counts(self) -> List[Tuple[Group, int]]:
        """How many works there are of each group."""
        return [(group, len(members)) for group, members in self._groups.items()]

    def highest(self) -> float:
        """The highest class of those that seek: there is one."""
        return max(group.urgency for group in self._groups)

    def front(self, group: Group, youngest_first: bool) -> Optional[Key]:
        """The work of ``group`` that goes first, or None when nobody is left."""
        members = self._groups.get(group)
        return members[-1 if youngest_first else 0][1] if members else None
