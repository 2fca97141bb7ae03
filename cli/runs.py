"""Intervals for people: those that follow one another at one place read as one."""

from typing import Hashable, Iterable, List, NamedTuple, Tuple


class Run(NamedTuple):
    """``parts`` intervals at ``place`` that together are [first, stop)."""

    place: Hashable
    first: int
    stop: int
    parts: int

    def __str__(self) -> str:
        return f"{self.place}[{self.first}:{self.stop}]"


def runs(intervals: Iterable[Tuple[Hashable, int, int]]) -> List[Run]:
    """Of (place, first, stop), in order: joined where the next begins where the one before stopped."""
    found: List[Run] = []
    for place, first, stop in intervals:
        if found and (found[-1].place, found[-1].stop) == (place, first):
            found[-1] = found[-1]._replace(stop=stop, parts=found[-1].parts + 1)
        else:
            found.append(Run(place, first, stop, 1))
    return found
