"""Overdue works: first ask where they are, and start them anew only if nobody holds them.

A slow fleet must not be made slower by its own impatience, so overdue is never a constant: it is the source's
``replay_after_s``, stretched by what works take at present, and doubled for every time the work was found alive, up to
``replay_s_max``. (A hand-over of the head's own that is never passed on needs no clock of its own: it began after the
work did, so the work is overdue first.) When a device has died, open works are asked for soon, at a bounded rate,
after its neighbours have had a moment to hand on what they had given it.

The rate of replays is bounded to a share of admissions, with a trickle for a fleet that admits nothing; attempts are
bounded, and an exhausted work fails with a reason: an input that kills devices must not kill them all. Devices lost on
the way and replays count together.

After a restart of the head nobody has to be late: works the journal knows and no device speaks of within
``restart_grace_s`` are asked for, and replayed, as soon as there is an allocation to replay them by. A restart is not
held against the work, but for a last bound: an input that kills its head must not do so for ever.
"""

from typing import Dict, Set

from pamdi.core.admitted import Admitted
from pamdi.core.context import Context
from pamdi.core.errors import Reason
from pamdi.core.head import Head
from pamdi.core.holdings import Holdings
from pamdi.core.instructions import Send
from pamdi.core.messages import Here, Where
from pamdi.core.peers import Peers
from pamdi.core.work import WorkId


class Watch:
    """One open work: when it is overdue, how patient we are by now, and who has yet to say where it is."""

    __slots__ = ("asked", "due", "hurried", "patience", "restored")

    def __init__(self, due: float, restored: bool) -> None:
        self.due = due
        self.patience = 1.0
        self.asked: Set[str] = set()
        self.hurried = False
        self.restored = restored


class Replay:
    def __init__(self, context: Context, holdings: Holdings, peers: Peers) -> None:
        self._context = context
        self._holdings = holdings
        self._peers = peers
        self._watches: Dict[WorkId, Watch] = {}
        self._budget = float(context.limits.replay_burst)
        self._trickled_at = 0.0
        self.head: Head

    def watch(self, admitted: Admitted) -> None:
        """The work has just been started (or restored, when no device has been told of it in this life)."""
        restored = admitted.attempt == admitted.attempt_restored and not self._holdings.of(admitted.work)
        if not restored and admitted.attempt == 0:
            limits = self._context.limits
            self._budget = min(limits.replay_burst, self._budget + limits.replay_share)
        old = self._watches.get(admitted.work)
        watch = Watch(0.0, restored)
        watch.patience = old.patience * 2 if old is not None else 1.0
        self._watches[admitted.work] = watch
        grace_s = self._context.limits.restart_grace_s
        self._arm(admitted.work, watch, grace_s if restored else self._patience_s(admitted.work, watch))

    def ended(self, work: WorkId) -> None:
        if self._watches.pop(work, None) is not None:
            self._context.timers.drop(self._overdue, work)

    def device_died(self) -> None:
        """Every open work may have been there: ask soon, so many per second."""
        limits = self._context.limits
        for i, (work, watch) in enumerate(self._watches.items()):
            wait_s = limits.where_s + i / limits.asks_for_works_hz
            if not watch.asked and self._context.now + wait_s < watch.due:
                watch.hurried = True
                self._arm(work, watch, wait_s)

    def heard(self, peer: str, message: Here) -> None:
        watch = self._watches.get(message.work)
        if watch is None or peer not in watch.asked:
            return
        watch.asked.discard(peer)
        if message.holding:
            self._alive(message.work, watch)
        elif not watch.asked:
            self._replay(message.work, watch)

    def holds(self, work: WorkId, attempt: int) -> bool:
        """Whether a device that is asked may say that it holds the work."""
        return any(held.key.attempt >= attempt and held.place != "backup" for held in self._holdings.of(work))

    def _patience_s(self, work: WorkId, watch: Watch) -> float:
        source = self._context.sources.get(work.source)
        base = source.replay_after_s if source is not None else self._context.limits.restart_grace_s
        return min(self._context.limits.replay_s_max, max(base, 4 * self.head.mean_latency_s) * watch.patience)

    def _arm(self, work: WorkId, watch: Watch, wait_s: float) -> None:
        watch.due = self._context.now + wait_s
        self._context.timers.set(watch.due, self._overdue, work)

    def _alive(self, work: WorkId, watch: Watch) -> None:
        watch.asked.clear()
        watch.restored = False
        if not watch.hurried:
            watch.patience = min(64.0, watch.patience * 2)
        watch.hurried = False
        self._arm(work, watch, self._patience_s(work, watch))

    def _overdue(self, work: WorkId) -> None:
        watch, admitted = self._watches.get(work), self.head.get(work)
        if watch is None or self._context.now < watch.due:
            return
        if admitted is None or admitted.state != "open":
            del self._watches[work]
            return
        if self.holds(work, admitted.attempt):  # what is on our own link has a clock of its own, in ``losses``
            self._alive(work, watch)
        elif watch.asked:  # the second of time to answer is over: silence is no
            self._replay(work, watch)
        else:
            self._ask(work, watch, admitted)

    def _ask(self, work: WorkId, watch: Watch, admitted: Admitted) -> None:
        watch.asked = set(self._peers.linked())
        if not watch.asked:
            self._replay(work, watch)
            return
        for peer in sorted(watch.asked):
            self._context.emit(Send(peer, Where(work, admitted.attempt)))
        self._arm(work, watch, self._context.limits.where_s)

    def _replay(self, work: WorkId, watch: Watch) -> None:
        admitted, source = self.head.get(work), self._context.sources.get(work.source)
        watch.asked.clear()
        if admitted is None or admitted.state != "open":
            self._watches.pop(work, None)
        elif source is None or self._context.stopping:  # nothing to replay by, yet
            self._arm(work, watch, self._context.limits.where_s)
        elif self._exhausted(admitted, source.attempts_max, watch.restored):
            self.head.give_up(admitted, Reason.ATTEMPTS, f"lost {admitted.attempt + 1} times on the way")
        elif not watch.restored and not self._spend():
            self._context.note("replays_postponed")
            self._arm(work, watch, self._context.limits.where_s)
        else:
            self.head.replay(admitted)

    def _exhausted(self, admitted: Admitted, attempts_max: int, restored: bool) -> bool:
        if admitted.attempt + 1 >= max(attempts_max, self._context.limits.attempts_total_max):
            return True
        return not restored and admitted.losses + 1 >= attempts_max

    def _spend(self) -> bool:
        """One replay of the budget, if it is there."""
        limits, now = self._context.limits, self._context.now
        trickle = (now - self._trickled_at) * limits.replay_trickle_hz
        self._budget, self._trickled_at = min(max(1.0, limits.replay_burst), self._budget + trickle), now
        if self._budget < 1.0:
            return False
        self._budget -= 1.0
        return True
