"""The next step from what devices hold to what they should hold: load first, then switch, then let go.

Pure set arithmetic over one instant. Two rules, and everything else follows from them:

- *Nothing is let go that nobody else has.* A unit that a source needs leaves a device only if another device that is
  online and not about to stop has it ready and keeps it. Not even then while something still loads, unless memory is
  short. A device that people drain counts: it works until its last unit has gone.
- *Nothing is asked for before there is room.* What a device reports still occupies its memory until it reports it
  gone; a new unit that does not fit beside it waits. Only then are old units let go early (drain-first), those first
  of which there are most.

Two full devices that must swap their only copies can obey neither for ever. When nothing moves any more and something
still waits, one unit goes although nobody else has it: a *gap*, for which the works queue until it is loaded again.
"""

from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Set, Tuple

from pamdi.controller.fleet import Unit

Units = FrozenSet[Unit]


class Holder(NamedTuple):
    """One device at this instant. ``target``: what the plan wants there; ``told``: what its last document asks for;
    ``ready`` and ``present``: what it can run, what occupies memory; ``absent``: asked for, heard of, and not there;
    ``broken``: what it cannot load now; ``counts``: online and not about to stop, so that others may rely on it."""

    target: Units
    told: Units
    ready: Units
    present: Units
    absent: Units
    broken: Units
    memory_bytes: int
    online: bool
    counts: bool


class Step(NamedTuple):
    """``asks[device]``: what its next document asks for. ``switched``: every new unit is ready, so routes may
    change. ``waiting``: new units that wait for room. ``gap``: the unit that goes although nobody else has it.
    ``remarks``: where old units go before the new are there."""

    asks: Dict[str, Units]
    switched: bool
    waiting: Dict[str, Units]
    gap: Optional[Unit]
    remarks: Tuple[str, ...]


def next_step(holders: Mapping[str, Holder], needed: Units, bytes_of: Mapping[Unit, int], final: bool = True) -> Step:
    """``needed``: the units of every source that is or was admitted; ``bytes_of`` knows every unit of every model;
    ``final``: no other plan is about to be made, so a gap may be worth its price."""
    return _Stepper(holders, needed, bytes_of).step(final)


class _Stepper:
    def __init__(self, holders: Mapping[str, Holder], needed: Units, bytes_of: Mapping[Unit, int]) -> None:
        self._holders, self._needed, self._bytes_of = holders, needed, bytes_of
        # What stays of what was told; shrinks as things are let go.
        self._keeps: Dict[str, Set[Unit]] = {id: set(h.told) for id, h in holders.items()}
        self._relied_on: Dict[Unit, Set[str]] = {}
        for id, holder in holders.items():
            for unit in holder.ready & holder.told if holder.counts else ():
                self._relied_on.setdefault(unit, set()).add(id)

    def step(self, final: bool) -> Step:
        order = sorted(self._holders)
        switched = all(self._loaded(id) for id in order)
        for id in order:
            self._drop_broken(id)
        if switched:
            for id in order:
                self._let_go(id)
        asks: Dict[str, Units] = {}
        waiting: Dict[str, Units] = {}
        remarks: List[str] = []
        for id in order:
            added, late = self._additions(id)
            if late:
                went = self._drain_first(id, late)
                if went:
                    remarks.append(f"{id}: {_names(went)} go before {_names(late)} come: no memory for both")
                waiting[id] = frozenset(late)
            asks[id] = frozenset(added)
        gap = None
        if final and waiting and not any(asks.values()) and self._still():
            gap = self._break_one(waiting, remarks)
        for id in order:
            asks[id] |= self._keeps[id]
        return Step(asks, switched, waiting, gap, tuple(remarks))

    def _still(self) -> bool:
        """Nothing loads, nothing leaves, nobody is expected back: waiting longer would change nothing."""
        return all(
            holder.online and self._keeps[id] == holder.told == holder.present and holder.told <= holder.ready
            for id, holder in self._holders.items()
        )

    def _break_one(self, waiting: Mapping[str, Units], remarks: List[str]) -> Optional[Unit]:
        ways = [(self._bytes_of[unit], id, unit) for id in waiting for unit in self._extras(id)]
        if not ways:
            return None
        _, id, unit = min(ways)
        self._drop(id, unit)
        remarks.append(f"{id}: {_names([unit])} goes although nobody else has it: no device has room for a second one")
        return unit

    def _loaded(self, id: str) -> bool:
        holder = self._holders[id]
        return not holder.online or holder.target - holder.broken <= holder.ready

    def _extras(self, id: str) -> List[Unit]:
        """Kept beyond the target: first what nobody needs, then what most others have."""
        extras = self._keeps[id] - self._holders[id].target
        return sorted(extras, key=lambda unit: (unit in self._needed, -self._others(id, unit), unit))

    def _others(self, id: str, unit: Unit) -> int:
        """How many other devices that one may rely on have the unit and keep it."""
        relied_on = self._relied_on.get(unit, ())
        return len(relied_on) - (id in relied_on)

    def _drop(self, id: str, unit: Unit) -> None:
        self._keeps[id].discard(unit)
        self._relied_on.get(unit, set()).discard(id)

    def _may_go(self, id: str, unit: Unit) -> bool:
        absent = unit in self._holders[id].absent
        return unit not in self._needed or absent or self._others(id, unit) > 0

    def _drop_broken(self, id: str) -> None:
        """A broken slot covers nothing; dropping it is what gives it another chance later."""
        self._keeps[id] -= self._holders[id].broken - self._holders[id].ready

    def _let_go(self, id: str) -> None:
        for unit in self._extras(id):
            if self._may_go(id, unit):
                self._drop(id, unit)

    def _additions(self, id: str) -> Tuple[List[Unit], List[Unit]]:
        """New units that fit now, and those that must wait; what nobody has ready comes first."""
        holder = self._holders[id]
        new = holder.target - holder.broken - self._keeps[id]
        room = holder.memory_bytes - self._bytes(holder.present | self._keeps[id])
        added: List[Unit] = []
        late: List[Unit] = []
        for unit in sorted(new, key=lambda unit: (self._others(id, unit), unit)):
            needs = 0 if unit in holder.present else self._bytes_of[unit]
            if needs <= room and not (needs and late):
                added.append(unit)
                room -= needs
            else:
                late.append(unit)
        return added, late

    def _drain_first(self, id: str, late: List[Unit]) -> List[Unit]:
        holder = self._holders[id]
        leaving = self._bytes(holder.present - self._keeps[id])  # on its way out already
        short = self._bytes(frozenset(late)) - (
            holder.memory_bytes - self._bytes(holder.present | self._keeps[id]) + leaving
        )
        went: List[Unit] = []
        for unit in self._extras(id):
            if short <= 0:
                break
            if self._may_go(id, unit):
                self._drop(id, unit)
                went.append(unit)
                short -= self._bytes_of[unit]
        return went

    def _bytes(self, units: "Set[Unit] | Units") -> int:
        return sum(self._bytes_of.get(unit, 0) for unit in units)


def _names(units: List[Unit]) -> str:
    return ", ".join(f"{model}[{u}:{u + 1}]" for model, u in units)
