"""Who holds what: single units, in memory that is never enough.

Residents are single units, because every boundary is a place where an urgent work can go first. What is resident
already stays, since loading engines costs seconds; then, sources in order of gamma * alpha:

1. *cover*: every unit of a source's model once, all or nothing;
2. *twice*: a second copy elsewhere, so that the loss of one device leaves every boundary covered;
3. *heads*: the source's own device holds its model, so that an urgent work need not travel;
4. *fill*: what memory is left takes further copies, rarest unit first, since the dispatch rule uses every ready one.

A round that finds no room makes some: copies beyond the second go first, the least urgent before others; to *cover* a
source also the second copies, and at the last the only copies of sources that are less urgent. The rounds repeat
until nothing changes, so that planning again from the outcome gives the same outcome. Ties go to the smaller id.

A *drained* device gets nothing and keeps only what nobody else can hold; a *frozen* one (suspect) keeps what it has.
"""

from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from pamdi.controller.fleet import Fleet, ModelEntry, Unit
from pamdi.core.allocation import SourceSpec

ROUNDS_MAX = 8
_Saved = Tuple[Dict[str, Set[Unit]], Dict[str, int], Dict[Unit, int]]


class Stock(NamedTuple):
    """``holds[device]``: its units; ``refused[source]``: why it cannot be admitted; ``remarks``: what people should
    know although it works."""

    holds: Dict[str, FrozenSet[Unit]]
    refused: Dict[str, str]
    remarks: Tuple[str, ...]


class Shelves:
    """The memory of all devices while it is filled. ``unable[device]``: units that it cannot load."""

    def __init__(
        self, fleet: Fleet, drained: FrozenSet[str], frozen: FrozenSet[str], unable: Mapping[str, FrozenSet[Unit]]
    ) -> None:
        self.models: Dict[str, ModelEntry] = {model.id: model for model in fleet.model}
        self.ids = sorted(device.id for device in fleet.device)
        self.closed = drained | frozen
        self.frozen = frozen - drained
        self.left = {device.id: device.memory_bytes for device in fleet.device}
        self.holds: Dict[str, Set[Unit]] = {id: set() for id in self.ids}
        self.urgency: Dict[Unit, float] = {}
        self._type = {device.id: device.type for device in fleet.device}
        self._unable = unable
        self._copies: Dict[Unit, int] = {}
        self.remarks: List[str] = []
        self.primary: Mapping[str, FrozenSet[Unit]] = {}

    def bytes_of(self, unit: Unit) -> int:
        return self.models[unit[0]].memory[unit[1]]

    def copies(self, unit: Unit) -> int:
        return self._copies.get(unit, 0)

    def calibrated(self, id: str, model: str) -> bool:
        return self._type[id] in self.models[model].seconds

    def able(self, id: str, unit: Unit) -> bool:
        """Whether the device could hold the unit, were there room."""
        return self.calibrated(id, unit[0]) and unit not in self._unable.get(id, ())

    def open_to(self, id: str, unit: Unit) -> bool:
        return id not in self.closed and unit not in self.holds[id] and self.able(id, unit)

    def fits(self, id: str, unit: Unit) -> bool:
        return self.left[id] >= self.bytes_of(unit)

    def hold(self, id: str, unit: Unit) -> None:
        self.holds[id].add(unit)
        self.left[id] -= self.bytes_of(unit)
        self._copies[unit] = self.copies(unit) + 1

    def release(self, id: str, unit: Unit) -> None:
        self.holds[id].discard(unit)
        self.left[id] += self.bytes_of(unit)
        self._copies[unit] -= 1

    def save(self) -> _Saved:
        return {id: set(units) for id, units in self.holds.items()}, dict(self.left), dict(self._copies)

    def restore(self, saved: _Saved) -> None:
        self.holds, self.left, self._copies = saved

    def room_for(self, id: str, unit: Unit, keep: int, below: float) -> Optional[List[Unit]]:
        """What to release on ``id`` so that ``unit`` fits: copies beyond ``keep`` of what is less urgent than
        ``below``. None when that is not enough."""
        missing = self.bytes_of(unit) - self.left[id]
        victims: List[Unit] = []
        spare = [v for v in self.holds[id] if self.copies(v) > keep and self.urgency.get(v, 0.0) < below]
        for victim in sorted(spare, key=lambda v: (self.urgency.get(v, 0.0), -self.copies(v), v)):
            if missing <= 0:
                break
            victims.append(victim)
            missing -= self.bytes_of(victim)
        return victims if missing <= 0 else None

    def take(self, id: str, unit: Unit, victims: Sequence[Unit]) -> None:
        for victim in victims:
            self.release(id, victim)
        self.hold(id, unit)


def choose(
    fleet: Fleet,
    previous: Mapping[str, FrozenSet[Unit]],
    drained: FrozenSet[str] = frozenset(),
    frozen: FrozenSet[str] = frozenset(),
    unable: Optional[Mapping[str, FrozenSet[Unit]]] = None,
    policy: str = "pa-mdi",
    residents: str = "plan",
    primary: Optional[Mapping[str, FrozenSet[Unit]]] = None,
) -> Stock:
    """``primary``: where a unit that nobody holds yet goes first. Policy ``local`` needs each source's model on its own
    device; ``residents = "all"`` (and policy ``ddi``, which never moves a work that has begun) needs every unit on
    every device."""
    shelves = Shelves(fleet, drained, frozen, unable or {})
    shelves.primary = primary or {}
    ordered = by_urgency(fleet.source)
    for source in ordered:
        for unit in _units(shelves, source):
            shelves.urgency[unit] = max(shelves.urgency.get(unit, 0.0), source.urgency())
    _keep(shelves, previous)
    everywhere = residents == "all" or policy == "ddi"
    refused: Dict[str, str] = {}
    for source in ordered:
        saved, said = shelves.save(), len(shelves.remarks)
        problem = _everywhere(shelves, source) if everywhere else _cover(shelves, source, previous, policy)
        if problem:
            shelves.restore(saved)
            del shelves.remarks[said:]
            refused[source.id] = problem
    admitted = [source for source in ordered if source.id not in refused]
    # A less urgent source may have lost its only copies to a more urgent one, never the other way round.
    for _ in range(ROUNDS_MAX):
        before = shelves.save()[0]
        _twice(shelves, admitted)
        _heads(shelves, admitted)
        _fill(shelves, admitted)
        if shelves.holds == before:
            break
    holds = {id: frozenset(held) for id, held in shelves.holds.items()}
    return Stock(holds, refused, tuple(shelves.remarks))


def by_urgency(sources: Sequence[SourceSpec]) -> List[SourceSpec]:
    return sorted(sources, key=lambda source: (-source.urgency(), source.id))


def _units(shelves: Shelves, source: SourceSpec) -> List[Unit]:
    return [(source.model, u) for u in range(len(shelves.models[source.model].memory))]


def _keep(shelves: Shelves, previous: Mapping[str, FrozenSet[Unit]]) -> None:
    """What is resident and still wanted by somebody stays, most urgent first should the memory have shrunk."""
    for id in shelves.ids:
        wanted = [unit for unit in previous.get(id, ()) if unit in shelves.urgency and shelves.able(id, unit)]
        for unit in sorted(wanted, key=lambda unit: (-shelves.urgency[unit], unit)):
            if (id in shelves.frozen or id not in shelves.closed) and shelves.fits(id, unit):
                shelves.hold(id, unit)


def _cover(shelves: Shelves, source: SourceSpec, previous: Mapping[str, FrozenSet[Unit]], policy: str) -> str:
    """One copy of each unit, all or none. Returns why not. First in the model's order, which makes runs; if that
    does not fit, the largest unit first, which packs better."""
    if source.device not in shelves.holds:
        return f"its device {source.device} is not there"
    units = _units(shelves, source)
    places = [source.device] if policy == "local" else shelves.ids
    saved = shelves.save()
    problem = _cover_in_order(shelves, units, places, previous, source.device)
    if problem:
        shelves.restore(saved)
        largest_first = sorted(units, key=lambda unit: (-shelves.bytes_of(unit), unit))
        problem = _cover_in_order(shelves, largest_first, places, previous, source.device)
    return problem


def _cover_in_order(
    shelves: Shelves, units: Sequence[Unit], places: Sequence[str], previous: Mapping[str, FrozenSet[Unit]], head: str
) -> str:
    for unit in units:
        if any(unit in shelves.holds[id] for id in places):
            continue
        if not _place(shelves, unit, places, previous, head) and not _keep_drained(shelves, unit, places, previous):
            return _why_not(shelves, unit, places)
    return ""


def _place(
    shelves: Shelves, unit: Unit, places: Sequence[str], previous: Mapping[str, FrozenSet[Unit]], head: str
) -> bool:
    open_ids = [id for id in places if shelves.open_to(id, unit)]
    free = [id for id in open_ids if shelves.fits(id, unit)]
    if free:
        shelves.hold(min(free, key=lambda id: _first(shelves, id, unit, previous, head)), unit)
        return True
    for keep, below in ((2, float("inf")), (1, float("inf")), (0, shelves.urgency[unit])):
        rooms = {id: shelves.room_for(id, unit, keep, below) for id in open_ids}
        made = {id: victims for id, victims in rooms.items() if victims is not None}
        if made:
            id = min(made, key=lambda id: (sum(shelves.bytes_of(v) for v in made[id]), id))
            shelves.take(id, unit, made[id])
            return True
    return False


def _first(
    shelves: Shelves, id: str, unit: Unit, previous: Mapping[str, FrozenSet[Unit]], head: str
) -> Tuple[bool, bool, bool, int, str]:
    """Where it was, else where the solver would have it, else where it goes best."""
    wanted = unit not in previous.get(id, ()), unit not in shelves.primary.get(id, ())
    return (*wanted, *_after(shelves, id, unit, head))


def _after(shelves: Shelves, id: str, unit: Unit, head: str) -> Tuple[bool, int, str]:
    """Where a unit goes best: next to the one before it (the first: at the head), since a tensor that need not travel
    costs nothing; else where there is most room."""
    model, u = unit
    beside = (model, u - 1) in shelves.holds[id] if u else id == head
    return not beside, -shelves.left[id], id


def _keep_drained(shelves: Shelves, unit: Unit, places: Sequence[str], previous: Mapping[str, FrozenSet[Unit]]) -> bool:
    """The one thing a drained device keeps: what would leave a source without its only copy."""
    held = [id for id in places if id in shelves.closed and unit in previous.get(id, ())]
    held = [id for id in held if shelves.able(id, unit) and shelves.fits(id, unit)]
    if not held:
        return False
    shelves.hold(held[0], unit)
    shelves.remarks.append(
        f"{held[0]} keeps {_name(unit)} although it is drained: "
        f"no other device has {shelves.bytes_of(unit)} bytes for it"
    )
    return True


def _everywhere(shelves: Shelves, source: SourceSpec) -> str:
    if source.device not in shelves.holds:
        return f"its device {source.device} is not there"
    for id in shelves.ids:
        missing = [unit for unit in _units(shelves, source) if shelves.open_to(id, unit)]
        for unit in missing:
            if not shelves.fits(id, unit):
                return (
                    f"every device must hold all of {source.model}, and {_name(unit)} needs {shelves.bytes_of(unit)} "
                    f'bytes where {id} has {shelves.left[id]} left: give it memory or use residents = "plan"'
                )
            shelves.hold(id, unit)
    uncovered = [unit for unit in _units(shelves, source) if not shelves.copies(unit)]
    return _why_not(shelves, uncovered[0], shelves.ids) if uncovered else ""


def _twice(shelves: Shelves, admitted: Sequence[SourceSpec]) -> None:
    for source in admitted:
        for unit in _units(shelves, source):
            if shelves.copies(unit) != 1:
                continue
            open_ids = [id for id in shelves.ids if shelves.open_to(id, unit)]
            free = [id for id in open_ids if shelves.fits(id, unit)]
            if free:
                shelves.hold(min(free, key=lambda id: _after(shelves, id, unit, "")), unit)
                continue
            rooms = {id: shelves.room_for(id, unit, 2, float("inf")) for id in open_ids}
            made = {id: victims for id, victims in rooms.items() if victims is not None}
            if made:
                id = min(made, key=lambda id: (len(made[id]), id))
                shelves.take(id, unit, made[id])


def _heads(shelves: Shelves, admitted: Sequence[SourceSpec]) -> None:
    for source in admitted:
        for unit in _units(shelves, source):
            if shelves.open_to(source.device, unit):
                victims = shelves.room_for(source.device, unit, 2, shelves.urgency[unit])
                if victims is not None:
                    shelves.take(source.device, unit, victims)


def _fill(shelves: Shelves, admitted: Sequence[SourceSpec]) -> None:
    units = list(dict.fromkeys(unit for source in admitted for unit in _units(shelves, source)))
    for id in sorted(shelves.ids, key=lambda id: (-shelves.left[id], id)):
        for unit in sorted(units, key=lambda unit: (shelves.copies(unit), -shelves.urgency[unit], unit)):
            if shelves.open_to(id, unit) and shelves.fits(id, unit):
                shelves.hold(id, unit)


def _why_not(shelves: Shelves, unit: Unit, places: Sequence[str]) -> str:
    """Which memory, and by how much."""
    needs = shelves.bytes_of(unit)
    calibrated = [id for id in places if shelves.calibrated(id, unit[0])]
    if not calibrated:
        return f"no device of a calibrated type can run {unit[0]}: add [model.seconds] for the types that are there"
    able = [id for id in calibrated if shelves.able(id, unit)]
    if not able:
        return f"{_name(unit)} cannot be loaded anywhere: {', '.join(calibrated)} lack its engine or report it broken"
    best = min(able, key=lambda id: (id in shelves.closed, -shelves.left[id], id))
    free = 0 if best in shelves.closed else shelves.left[best]
    return (
        f"{_name(unit)} needs {needs} bytes, the most that is left on one device is {free} ({best}): "
        f"{max(0, needs - free)} too few"
    )


def _name(unit: Unit) -> str:
    return f"{unit[0]}[{unit[1]}:{unit[1] + 1}]"
