"""Commands by hand: drain, reallocate. Idempotent by id; each is answered at once, and again when it has come true.

A report is ``{"id", "status", "said", "epoch"}``; ``status`` is accepted, then done; or waiting when the fleet has
not settled within ``REPORT_S_MAX``; or failed. The same id again gets the last report again, and nothing is done twice.
The last report on a reallocation says what it gained or would have, and at which price (``allocation``).
"""

from typing import Callable, Dict, List, Optional

import msgspec

from pamdi.controller.rollout import Rollout
from pamdi.controller.worth import Weighed
from pamdi.core.topics import Topic

REMEMBERED_MAX = 1000
REPORT_S_MAX = 120.0


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    status: str
    said: str
    epoch: int
    allocation: Optional[Weighed] = None


class Commands:
    """``rejected``: why the newest configuration is not in use, or nothing."""

    def __init__(self, rollout: Rollout, rejected: Callable[[], str] = str) -> None:
        self._rollout, self._rejected = rollout, rejected
        self._last: Dict[str, Report] = {}
        self._open: Dict[str, float] = {}
        self._weighing: Dict[str, Optional[Weighed]] = {}  # of open reallocations: what had been weighed before

    def obey(self, topic: Topic, id: str, on: bool, now: float) -> Report:
        if id in self._last:
            return self._last[id]
        if topic.leaf == "drain":
            said = self._rollout.drain(topic.id, on, now)
            if said is None:
                known = ", ".join(sorted(self._rollout.devices)) or "none"
                return self._keep(
                    Report(id, "failed", f"there is no device {topic.id}; known are {known}", self._epoch)
                )
        else:
            self._weighing[id] = self._rollout.weighed
            said = self._rollout.reallocate(now)
        self._open[id] = now
        return self._keep(Report(id, "accepted", said, self._epoch))

    def finished(self, now: float) -> List[Report]:
        """Reports of commands that have come true, or have taken too long."""
        reports = []
        rollout = self._rollout
        for id, since in list(self._open.items()):
            searched = id not in self._weighing or rollout.question is None
            settled = searched and rollout.settled()
            weighed = self._weighed(id)
            first = [weighed.said] if weighed is not None else []
            if settled:
                reports.append(Report(id, "done", "; ".join([*first, *self._outcome()]), self._epoch, weighed))
            elif now >= since + REPORT_S_MAX:
                left = "; ".join([*first, *self._rollout.unsettled()]) or "the plan is not made yet"
                said = f"not done after {REPORT_S_MAX:g} s: {left}"
                reports.append(Report(id, "waiting", said, self._epoch, weighed))
            else:
                continue
            del self._open[id]
            self._weighing.pop(id, None)
            self._keep(reports[-1])
        return reports

    @property
    def _epoch(self) -> int:
        return self._rollout.epoch

    def _weighed(self, id: str) -> Optional[Weighed]:
        """What was weighed since ``id`` asked for it."""
        weighed = self._rollout.weighed
        return weighed if id in self._weighing and weighed is not self._weighing[id] else None

    def _outcome(self) -> List[str]:
        rollout = self._rollout
        refused = [f"source {id} is not admitted: {why}" for id, why in sorted(rollout.refused.items())]
        why = self._rejected()
        unused = [f"the newest configuration is not in use: {why}"] if why else []
        return [*unused, f"every device holds its part of epoch {rollout.epoch}", *rollout.remarks, *refused]

    def _keep(self, report: Report) -> Report:
        self._last[report.id] = report
        while len(self._last) > REMEMBERED_MAX:
            oldest = next(iter(self._last))
            del self._last[oldest]
            self._open.pop(oldest, None)
            self._weighing.pop(oldest, None)
        return report
