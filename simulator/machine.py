"""One simulated device: the core's ``Device``, its executor, its journal; and the connections between two of them."""

import random
from typing import Any, Dict, List, Optional, Tuple

import msgspec

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core.device import Device
from pamdi.core.work import Key, WorkId
from pamdi.simulator.server import Line

NEVER = float("inf")


class Kept:
    """A record of the journal: what was written, when, and whether its end is known to be delivered."""

    __slots__ = ("at", "attempt", "delivered", "final", "opened")

    def __init__(self, opened: ins.JournalOpen, at: float) -> None:
        self.opened = opened
        self.final: Optional[ins.JournalFinal] = None
        self.at = at
        self.attempt = 0
        self.delivered = False


class Journal:
    """Survives a crash. Ages are of the moment of reading, as in the product."""

    def __init__(self) -> None:
        self.kept: Dict[WorkId, Kept] = {}

    def open(self, record: ins.JournalOpen, now: float) -> None:
        self.kept[record.work] = Kept(record, now - record.age_s)

    def attempt(self, record: ins.JournalAttempt) -> None:
        if record.work in self.kept:
            self.kept[record.work].attempt = record.attempt

    def final(self, record: ins.JournalFinal, now: float) -> None:
        kept = self.kept.get(record.work)
        if kept is None:
            opened = ins.JournalOpen(record.work, record.digest, None, 0.0, None, None, record.durable)
            kept = self.kept[record.work] = Kept(opened, now)
        kept.final, kept.at = record, now

    def forget(self, work: WorkId) -> None:
        self.kept.pop(work, None)

    def delivered(self, work: WorkId) -> None:
        if work in self.kept:
            self.kept[work].delivered = True

    def restore(self, now: float) -> ev.Restored:
        opened: List[ev.OpenRecord] = []
        final: List[ev.FinalRecord] = []
        for work, kept in self.kept.items():
            age_s, end = now - kept.at, kept.final
            if end is None:
                o = kept.opened
                left_s = None if o.left_s is None else o.left_s - age_s
                opened.append(
                    ev.OpenRecord(work, o.digest, o.payload, o.payload.nbytes, kept.attempt, age_s, o.gamma, left_s)
                )
            else:
                size = end.payload.nbytes if end.payload is not None else 0
                final.append(
                    ev.FinalRecord(
                        work,
                        end.digest,
                        end.status,
                        end.reason,
                        end.detail,
                        end.latency_s,
                        end.path,
                        end.payload,
                        size,
                        kept.delivered,
                        age_s,
                    )  # fmt: skip
                )
        return ev.Restored(tuple(opened), tuple(final))


class Machine:
    """``life`` goes up with every crash and every start, so that what is on its way for an earlier life finds nobody.
    ``slow``: what its seconds are multiplied with. ``peers[id]``: its connections."""

    __slots__ = (
        "alarm_at", "busy_s", "device", "id", "journal", "life", "peers", "random", "running", "slow", "started_at",
        "units",
    )  # fmt: skip

    def __init__(self, id: str, seed: int) -> None:
        self.id = id
        self.device: Optional[Device] = None
        self.life = 0
        self.journal = Journal()
        self.peers: Dict[str, Peer] = {}
        self.running: Optional[Key] = None
        self.started_at = 0.0
        self.busy_s = 0.0
        self.slow = 1.0
        self.alarm_at = NEVER
        self.random = random.Random(f"{seed}/jitter/{id}")
        self.units: Any = frozenset()


class Pair:
    """The connection of two devices, direct or over others. ``life`` goes up whenever it breaks: what is on its way is
    then lost. ``held``: what arrived while the way was cut; TCP brings it when the way is mended in time."""

    __slots__ = ("a", "b", "cut", "dependents", "held", "life", "needs", "up", "via")

    def __init__(self, a: Machine, b: Machine, needs: Tuple["Pair", ...], via: Tuple[Machine, ...]) -> None:
        self.a, self.b, self.needs, self.via = a, b, needs, via
        self.up = self.cut = False
        self.life = 0
        self.held: List[Any] = []
        self.dependents: List[Pair] = []
        for pair in needs:
            pair.dependents.append(self)

    def can_be_up(self) -> bool:
        alive = all(machine.device is not None for machine in (self.a, self.b, *self.via))
        return alive and not self.cut and all(pair.up for pair in self.needs)


class Peer:
    """One direction of a pair: the lines that its messages take."""

    __slots__ = ("delay_s", "lines", "pair", "to")

    def __init__(self, to: Machine, pair: Pair, lines: Tuple[Line, ...]) -> None:
        self.to, self.pair, self.lines = to, pair, lines
        self.delay_s = sum(line.delay_s for line in lines)


class Parcel(msgspec.Struct, eq=False):
    """A message on its way: what was sent, by whom, and over which connection, in which ``life`` of it. ``leg``: the
    line it is on. (A struct, as are all things here that are made for every message: made in a third of the time.)"""

    sender: Machine
    peer: Peer
    life: int
    send: ins.Send
    nbytes: int
    sent_at: float
    leg: int = 0

    def alive(self) -> bool:
        return self.peer.pair.life == self.life
