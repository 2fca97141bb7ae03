"""One device as far as it has told the controller: its life, what it is, what it holds, and what it could not load.

An engine that broke is not tried again there before ``retry_after_s``, twice as long after each further failure, at
most ``RETRY_S_MAX``. Another life of the device, or a person who says ``reallocate``, gives it a new chance.
"""

from typing import Dict, FrozenSet, NamedTuple, Optional, Set, Tuple

from pamdi.controller.fleet import Unit
from pamdi.controller.kept import KeptSlower
from pamdi.controller.slowed import NORMAL, Slower, Speed
from pamdi.core.allocation import AllocationState, DeviceInfo
from pamdi.core.device_life import DEVICE

RETRY_S_MAX = 3600.0


class Breakage(NamedTuple):
    """Not before ``until`` again; ``reported``: the device still says so."""

    until: float
    reason: str
    reported: bool


class Seen:
    """``told[unit]`` is the epoch since which we have been asking for it: an older report says nothing of it."""

    def __init__(self) -> None:
        self.life = DEVICE.initial
        self.since = 0.0
        self.info: Optional[DeviceInfo] = None
        self.state: Optional[AllocationState] = None
        self.drained = False
        self.told: Dict[Unit, int] = {}
        self.broken: Dict[Unit, Breakage] = {}
        self.failures: Dict[Unit, int] = {}
        self.loading_since: Dict[Unit, float] = {}
        self.speed = Speed()
        self.power_mode: Optional[str] = None  # nvpmodel's, as its stats say; None: unknown

    @property
    def online(self) -> bool:
        return self.life == "online" and self.info is not None

    @property
    def reachable(self) -> bool:
        return self.life in ("online", "suspect") and self.info is not None

    @property
    def stopping(self) -> bool:
        """By its own word: it finishes what it has and goes."""
        return self.state is not None and self.state.draining

    @property
    def draining(self) -> bool:
        """By our order, or by its own word."""
        return self.drained or self.stopping

    def slots(self, *states: str) -> FrozenSet[Unit]:
        segments = self.state.segments if self.state is not None else ()
        return frozenset((s.model, u) for s in segments if s.state in states for u in range(s.first, s.stop))

    def ready(self) -> FrozenSet[Unit]:
        """What it can run, by a report that is not older than our asking."""
        heard = self.state.epoch if self.state is not None else -1
        return frozenset(unit for unit in self.slots("ready") if self.told.get(unit, 0) <= heard)

    def present(self) -> FrozenSet[Unit]:
        """What occupies its memory by its last report."""
        return self.slots("ready", "loading", "draining")

    def absent(self) -> FrozenSet[Unit]:
        """What we asked for and a report that knows of it says is not there, not even loading."""
        heard = self.state.epoch if self.state is not None else -1
        return frozenset(unit for unit, since in self.told.items() if since <= heard) - self.present()

    def unable(self) -> FrozenSet[Unit]:
        return frozenset(self.broken)

    def is_told(self, units: FrozenSet[Unit], epoch: int) -> None:
        """Its document of ``epoch`` asks for these."""
        self.told = {unit: self.told.get(unit, epoch) for unit in units}

    def new_life(self) -> None:
        """What we knew of its engines died with the process that held them."""
        self.state = None
        self.forgive()
        self.loading_since.clear()
        self.speed = Speed()

    def kept_speed(self, id: str) -> Tuple[KeptSlower, ...]:
        """What a later life of the controller must know of it, if it is slower than its table."""
        if self.info is None or self.speed.planned is NORMAL:
            return ()
        return (self.speed.planned.kept(id, self.info.instance),)

    def resume_speed(self, kept: Optional[KeptSlower], now: float) -> None:
        """``kept``: by a former life of the controller; it holds for this life of the device only."""
        if kept is not None and self.info is not None and kept.instance == self.info.instance:
            self.speed.resume(Slower.of_kept(kept), now)

    def forgive(self) -> None:
        self.broken.clear()
        self.failures.clear()

    def heard(self, state: AllocationState, now: float, retry_after_s: float) -> bool:
        """Returns whether something broke that was not known to be broken."""
        self.state = state
        broken = {(s.model, u): s for s in state.segments if s.state == "broken" for u in range(s.first, s.stop)}
        for unit in [unit for unit, known in self.broken.items() if known.reported and unit not in broken]:
            self.broken[unit] = self.broken[unit]._replace(reported=False)
        new = [unit for unit in broken if unit not in self.broken or not self.broken[unit].reported]
        for unit in new:
            self._break(unit, broken[unit].reason, True, now, retry_after_s)
        for unit in self.ready():
            self.broken.pop(unit, None)
            self.failures.pop(unit, None)
        return bool(new)

    def late(self, now: float, wanted: Set[Unit], load_s_max: float, retry_after_s: float) -> FrozenSet[Unit]:
        """What it has been asked to load for longer than ``load_s_max``: taken for broken from now on."""
        waiting = wanted - self.slots("ready") - self.unable()
        self.loading_since = {unit: self.loading_since.get(unit, now) for unit in waiting}
        late = frozenset(unit for unit, since in self.loading_since.items() if now >= since + load_s_max)
        for unit in late:
            self._break(unit, f"not ready after {load_s_max:g} s", False, now, retry_after_s)
        return late

    def retry(self, now: float) -> bool:
        """Engines whose time has come get another chance. Returns whether there are any."""
        due = [unit for unit, known in self.broken.items() if now >= known.until and not known.reported]
        for unit in due:
            del self.broken[unit]
        return bool(due)

    def _break(self, unit: Unit, reason: str, reported: bool, now: float, retry_after_s: float) -> None:
        failures = self.failures[unit] = self.failures.get(unit, 0) + 1
        wait_s = min(RETRY_S_MAX, retry_after_s * 2 ** min(failures - 1, 16))
        self.broken[unit] = Breakage(now + wait_s, reason, reported)
        self.loading_since.pop(unit, None)
