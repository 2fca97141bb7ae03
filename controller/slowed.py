"""Whether a device is slower than its calibration table says, for so long that the plan should know of it.

Boards slow down when they are hot, or when somebody changes their power mode. Each tells in its beacon what its ready
segments take by now: a mean that follows the runs. Here that is held against the table: the *ratio* is what the
segments that ran of late take, over what the table says they take. Nothing is done at once, and nothing for a flicker:

- slower than what is planned with by ``slow_factor``, in every beacon for ``slow_delay_s``: planned with from now on;
- back under ``normal_factor`` for as long: the table holds again. Between the two lines nothing changes;
- much better (by ``slow_factor``) than what is planned with, though not normal: planned with from now on, as well;
- nothing has run for ``slow_forget_s``, perhaps since the plan sends nothing there any more: nobody knows, so the table
  is believed again and the device gets another chance.

When that is so, and for long enough, is decided in ``lasting.py``.

Pure: time is an argument, and nothing counts but what a beacon brings. A value counts when it has moved since the last
beacon, because a segment that does not run repeats what it said; a device with less than two such beacons within
``slow_delay_s`` is not judged. A device that is faster than its table is taken at the table's word.
"""

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import msgspec

from pamdi.controller.fleet import DeviceEntry, Fleet, MergedEntry, ModelEntry
from pamdi.controller.kept import KeptSlower
from pamdi.controller.lasting import Lasting, wished

SECONDS_MAX = 3600.0  # of one segment; more is nonsense, and must not decide anything
ROUNDED_S = 2e-6  # beacons round to microseconds

Piece = Tuple[str, int, int]  # model, first, stop
Ready = Sequence[Tuple[str, int, int, float]]  # of a beacon: model, first, stop, seconds


class Terms(NamedTuple):
    """``slow_factor`` 0: whatever devices say of their speed changes nothing."""

    slow_factor: float = 1.5
    normal_factor: float = 1.2
    slow_delay_s: float = 30.0
    slow_forget_s: float = 600.0


class BeaconSeconds(msgspec.Struct, frozen=True):
    """What is read of a beacon here: the ready segments, each (model, first, stop, seconds)."""

    ready: Tuple[Tuple[str, int, int, float], ...] = ()


class Slower(NamedTuple):
    """What to plan with: ``ratios`` of the pieces that ran, ``factor`` for the others; 1 is the table."""

    factor: float = 1.0
    ratios: Mapping[Piece, float] = {}

    def of(self, piece: Piece) -> float:
        return self.ratios.get(piece, self.factor)

    def kept(self, device: str, instance: int) -> KeptSlower:
        ratios = tuple((*piece, ratio) for piece, ratio in sorted(self.ratios.items()))
        return KeptSlower(device, instance, self.factor, ratios)

    @staticmethod
    def of_kept(kept: KeptSlower) -> "Slower":
        return Slower(kept.factor, {(model, first, stop): ratio for model, first, stop, ratio in kept.ratios})


NORMAL = Slower()


class _Ran(NamedTuple):
    """A piece that has run: when a beacon last said so, what it takes over ``table_s``."""

    at: float
    ratio: float
    table_s: float


class Speed:
    """One device. ``planned``: what the plan is to be made with."""

    def __init__(self) -> None:
        self.planned = NORMAL
        self._said: Dict[Piece, float] = {}
        self._ran: Dict[Piece, _Ran] = {}
        self._lasting = Lasting()

    def resume(self, planned: Slower, now: float) -> None:
        """As a former life of the controller knew it; believed for as long as if it had just been heard."""
        self.planned = planned
        self._lasting.heard_at = now

    def heard(self, ready: Ready, models: Mapping[str, ModelEntry], type: str, now: float, terms: Terms) -> bool:
        """A beacon. Returns whether ``planned`` has changed."""
        if not terms.slow_factor or not self._note(ready, models, type, now, terms):
            return False
        wish = wished(self._ratio(), self.planned.factor, terms.slow_factor, terms.normal_factor)
        if not self._lasting.lasts(wish, now, terms.slow_delay_s, silent_s=terms.slow_delay_s):
            return False
        self.planned = NORMAL if wish == "normal" else self._present()
        return True

    def age(self, now: float, terms: Terms) -> bool:
        """Returns whether ``planned`` has changed: nothing has run for too long, or nobody wants to know any more."""
        known = bool(terms.slow_factor) and now < self._lasting.heard_at + terms.slow_forget_s
        if self.planned is NORMAL or known:
            return False
        self.planned = NORMAL
        self._lasting.forget()
        self._ran.clear()
        return True

    def _note(self, ready: Ready, models: Mapping[str, ModelEntry], type: str, now: float, terms: Terms) -> bool:
        """Whether anything has run since the last beacon."""
        said: Dict[Piece, float] = {}
        for model, first, stop, seconds in ready:
            table_s = _table_s(models, model, type, first, stop)
            if table_s is not None and 0 < seconds < SECONDS_MAX:
                piece = (model, first, stop)
                said[piece] = seconds
                # A segment that has not run since it was loaded says what the table says.
                if min(abs(seconds - table_s), abs(seconds - self._said.get(piece, table_s))) > ROUNDED_S:
                    self._ran[piece] = _Ran(now, seconds / table_s, table_s)
        self._said = said
        self._ran = {p: r for p, r in self._ran.items() if p in said and now <= r.at + terms.slow_delay_s}
        return any(ran.at == now for ran in self._ran.values())

    def _ratio(self) -> float:
        """Over all that ran of late: seconds over the table's seconds."""
        total_s = sum(ran.table_s for ran in self._ran.values())
        return sum(ran.table_s * ran.ratio for ran in self._ran.values()) / total_s

    def _present(self) -> Slower:
        """By what ran of late; never faster than the table."""
        return Slower(self._ratio(), {piece: max(1.0, ran.ratio) for piece, ran in self._ran.items()})


def _table_s(models: Mapping[str, ModelEntry], model: str, type: str, first: int, stop: int) -> Optional[float]:
    seconds = models[model].seconds.get(type) if model in models else None
    if seconds is None or not 0 <= first < stop <= len(seconds):
        return None
    return sum(seconds[first:stop])


def with_slower(fleet: Fleet, slower: Mapping[str, Slower]) -> Fleet:
    """``fleet`` where each slower device is of a type of its own ("orin/d3"), with the seconds that it takes."""
    touched = {device.id: device.type for device in fleet.device if slower.get(device.id, NORMAL) is not NORMAL}
    if not touched:
        return fleet
    boards = [
        DeviceEntry(d.id, _own(d), d.memory_bytes, d.fail_probability, d.overhead_s) if d.id in touched else d
        for d in fleet.device
    ]
    models = []
    for model in fleet.model:
        seconds, merged = dict(model.seconds), dict(model.merged)
        for device in fleet.device:
            if device.id in touched and device.type in seconds:
                seconds[_own(device)] = _slowed(model, seconds[device.type], slower[device.id])
                pieces, factor = merged.get(device.type, []), slower[device.id].factor
                merged[_own(device)] = [MergedEntry(p.first, p.stop, p.seconds * factor) for p in pieces]
        models.append(msgspec.structs.replace(model, seconds=seconds, merged=merged))
    return msgspec.structs.replace(fleet, device=boards, model=models)


def _own(device: DeviceEntry) -> str:
    return f"{device.type}/{device.id}"  # no id has a slash


def _slowed(model: ModelEntry, seconds: Sequence[float], slower: Slower) -> List[float]:
    return [s * slower.of((model.id, u, u + 1)) for u, s in enumerate(seconds)]
