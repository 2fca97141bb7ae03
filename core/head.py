"""The head: where works are admitted, and where each ends exactly once.

An input is in the journal before ``admitted`` is said, and its end is in the journal before it is published. Between
the two the work is somewhere in the fleet, and this file does not care where, until it is overdue: ``replay`` then
asks around and starts it anew. Whatever comes back first is the answer; everything later finds the work ended.

Overload is met here and only here, by refusing: per source, over all sources, and in bytes, with the room for the
answer counted in. Full means refusing, never forgetting.
"""

from typing import Any, Callable, Dict, List, Optional, Tuple

from pamdi.core.admitted import Admitted
from pamdi.core.context import Context
from pamdi.core.errors import Reason
from pamdi.core.events import FinalRecord, OpenRecord, Restored, Submitted
from pamdi.core.hops import Hops
from pamdi.core.instructions import (
    JournalAttempt,
    JournalFinal,
    JournalForget,
    JournalOpen,
    PublishResult,
    Send,
)
from pamdi.core.messages import Finished
from pamdi.core.peers import Peers
from pamdi.core.work import Key, Visit, Work, WorkId

_REASONS = frozenset(reason.value for reason in Reason)


class Head:
    def __init__(
        self,
        context: Context,
        hops: Hops,
        peers: Peers,
        on_open: Callable[[Admitted], None],
        on_end: Callable[[WorkId], None],
    ) -> None:
        self._context = context
        self._hops = hops
        self._peers = peers
        self._on_open = on_open
        self._on_end = on_end
        self._works: Dict[WorkId, Admitted] = {}
        self._open: Dict[str, int] = {}
        self._open_all = self._ending = 0
        self._bytes = 0
        self._finished: List[WorkId] = []
        self.mean_latency_s = 0.0
        hops.answer_here = self.answered

    # -- submission ----------------------------------------------------------------------------------------------

    def submitted(self, event: Submitted) -> None:
        known = self._works.get(event.work)
        if known is not None:
            self._again(known, event)
            return
        objection = self._objection(event)
        if objection is not None:
            self._refuse(event.work, *objection)
            return
        source = self._context.sources[event.work.source]
        now = self._context.now
        admitted = Admitted(event.work, event.digest, event.payload, event.nbytes, now)
        admitted.gamma = event.gamma
        deadline_s = event.deadline_s if event.deadline_s is not None else source.deadline_s
        admitted.due = None if deadline_s is None else now + deadline_s
        self._keep(admitted)
        durable = source.durability == "disk"
        self._context.emit(
            JournalOpen(event.work, event.digest, event.payload, 0.0, event.gamma, deadline_s, durable)
        )  # fmt: skip

    def journaled(self, work: WorkId, final: bool) -> None:
        admitted = self._works.get(work)
        if admitted is None or admitted.state != ("ending" if final else "admitting"):
            return
        admitted.step("journaled")
        if final:
            self._publish_end(admitted)
            return
        self._say(admitted, "admitted")
        self._context.note("works_admitted")
        if admitted.cancelled:
            self.give_up(admitted, Reason.CANCELLED, "cancelled by request")
        else:
            self.start(admitted)

    def journal_refused(self, work: WorkId, final: bool, detail: str) -> None:
        admitted = self._works.get(work)
        if admitted is None or admitted.state != ("ending" if final else "admitting"):
            return
        admitted.step("journal_refused")
        if final:
            self._context.note("journal_failures", f"the end of {work} is published but not on record: {detail}")
            self._publish_end(admitted)
        else:
            self._no_longer_open(admitted)
            self._drop(admitted)
            self._refuse(work, Reason.JOURNAL_FULL, detail)

    def cancel(self, work: WorkId) -> None:
        admitted = self._works.get(work)
        source = self._context.sources.get(work.source)
        if admitted is None:
            self._context.note("cancels_of_unknown")
            if source is not None and source.device == self._context.device:  # else its head may know it
                memory_s = self._context.limits.answer_memory_s
                detail = f"it is not open, and has not ended within the last {memory_s:g} s"
                self._context.emit(
                    PublishResult(work, "refused", reason=Reason.UNKNOWN_WORK.value, detail=detail)
                )  # fmt: skip
        elif admitted.state == "admitting":
            admitted.cancelled = True  # once its input is in the journal, so that the end has a beginning
        elif admitted.state in ("ended", "delivered"):
            self._say_end(admitted, acknowledge=False)
        else:
            self.give_up(admitted, Reason.CANCELLED, "cancelled by request")

    # -- the end of a work ---------------------------------------------------------------------------------------

    def answered(
        self, work: Work, payload: Any, nbytes: int, error: str = "", detail: str = "", peer: str = ""
    ) -> None:
        """An answer (or why there is none) from this device or from ``peer``. The first one counts."""
        if payload is None and not error:
            self._context.note("messages_malformed", f"an answer of {peer or 'this device'} for {work.key} is empty")
            return
        admitted = self._works.get(work.key.work)
        if admitted is None or admitted.state in ("ended", "delivered"):
            if peer:
                self._context.emit(Send(peer, Finished((work.key.work,))))
            return
        if peer:
            admitted.tell.add(peer)
        if admitted.state != "open":
            return
        admitted.retried = max(0, work.resent - admitted.losses)
        if error:
            reason = Reason(error) if error in _REASONS else Reason.NO_ROUTE
            self.give_up(admitted, reason, detail or f"given up after {work.resent} losses", work.path)
            return
        admitted.step("answered")
        latency_s = self._context.now - admitted.born
        self.mean_latency_s = 0.9 * self.mean_latency_s + 0.1 * latency_s if self.mean_latency_s else latency_s
        self._end(admitted, "answered", "", "", work.path, payload, nbytes)

    def give_up(self, admitted: Admitted, reason: Reason, detail: str, path: Tuple[Visit, ...] = ()) -> None:
        if admitted.state != "open":
            return
        admitted.step("given_up")
        self._end(admitted, "failed", reason.value, detail, path, None, 0)

    def delivered(self, work: WorkId) -> None:
        admitted = self._works.get(work)
        if admitted is not None and admitted.state in ("ended", "delivered"):
            admitted.step("delivered")

    def flush_finished(self, force: bool = False) -> None:
        """Tell the fleet which works have ended, in batches: it frees what is still kept of them."""
        if self._finished and (force or len(self._finished) >= self._context.limits.finished_batch):
            self._context.timers.drop(self._flush_in_time)
            batch, self._finished = tuple(self._finished), []
            for peer in self._peers.linked():
                self._context.emit(Send(peer, Finished(batch)))

    # -- restart and replay --------------------------------------------------------------------------------------

    def restored(self, event: Restored) -> None:
        """A new life: what was open is open, and said so; what had ended is published again unless it was heard."""
        for ended in event.final:
            self._restore_final(ended)
        for record in event.open:
            self._restore_open(record)

    def start(self, admitted: Admitted) -> None:
        """Send the work on its way, at its present attempt. ``replay`` hears of it."""
        source = self._context.sources.get(admitted.work.source)
        now = self._context.now
        if source is not None:
            left = None if admitted.due is None else admitted.due - now
            key = Key(admitted.work.source, admitted.work.id, admitted.attempt, 0, 0)
            work = Work(
                key, source.model, self._context.device, source.urgency(admitted.gamma), now - admitted.born, left,
                source.age_s_max, resent=admitted.losses,
            )  # fmt: skip
            self._hops.begin(work, admitted.payload, admitted.nbytes)
        if admitted.due is not None:
            self._context.timers.set(admitted.due, self._deadline, admitted.work)
        self._on_open(admitted)

    def replay(self, admitted: Admitted) -> None:
        admitted.attempt += 1
        self._context.emit(JournalAttempt(admitted.work, admitted.attempt))
        self._context.note("works_replayed", f"{admitted.work} starts again, attempt {admitted.attempt}")
        self.start(admitted)

    def get(self, work: WorkId) -> Optional[Admitted]:
        return self._works.get(work)

    def open_count(self) -> int:
        """Works that have been let in and have no end yet."""
        return self._open_all

    def unsaid_count(self) -> int:
        """Works that have been let in and whose end nobody has been told yet."""
        return self._open_all + self._ending

    # -- inside --------------------------------------------------------------------------------------------------

    def _objection(self, event: Submitted) -> Optional[Tuple[Reason, str]]:
        limits, source = self._context.limits, self._context.sources.get(event.work.source)
        if self._context.stopping or self._context.draining:
            return Reason.STOPPING, f"{self._context.device} is draining: submit again in a while"
        if source is None or source.device != self._context.device:
            return Reason.UNKNOWN_SOURCE, f"{event.work.source} is not a source of {self._context.device}"
        if event.gamma is not None and not event.gamma > 0:
            return Reason.BAD_INPUT, f"gamma is {event.gamma:g}: it must be positive"
        if event.deadline_s is not None and event.deadline_s != event.deadline_s:
            return Reason.BAD_INPUT, "deadline_s is not a number"
        if event.nbytes > limits.submit_bytes_max:
            return Reason.TOO_LARGE, f"{event.nbytes} bytes; the limit is {limits.submit_bytes_max}"
        if self._open.get(source.id, 0) >= source.queue_works_max or self._open_all >= limits.open_works_max:
            return Reason.OVERLOADED, f"{self._open.get(source.id, 0)} works of {source.id} are open"
        model = self._context.models.get(source.model)
        answer_bytes = model.bytes[-1] if model is not None else 0
        if self._bytes + event.nbytes + answer_bytes > limits.journal_bytes_max:
            return Reason.OVERLOADED, f"the journal holds {self._bytes} of {limits.journal_bytes_max} bytes"
        return None

    def _again(self, known: Admitted, event: Submitted) -> None:
        """The same id while it is known: the same word once more, and nothing is computed twice."""
        if known.digest != event.digest:
            detail = "this id was used with another input: choose a new id"
            self._refuse(event.work, Reason.ID_REUSED, detail)
            return
        known.step("submitted")
        self._context.note("works_submitted_again")
        if known.state in ("ended", "delivered"):
            self._say_end(known, acknowledge=known.state == "ended")
        elif known.state == "open":
            self._say(known, "admitted")

    def _refuse(self, work: WorkId, reason: Reason, detail: str) -> None:
        self._context.note("works_refused")
        retry = max(0.1, self.mean_latency_s) if reason in (Reason.OVERLOADED, Reason.STOPPING) else None
        self._context.emit(
            PublishResult(work, "refused", reason=reason.value, detail=detail, retry_after_s=retry)
        )  # fmt: skip

    def _keep(self, admitted: Admitted) -> None:
        self._works[admitted.work] = admitted
        self._open[admitted.work.source] = self._open.get(admitted.work.source, 0) + 1
        self._open_all += 1
        self._bytes += admitted.nbytes

    def _drop(self, admitted: Admitted) -> None:
        del self._works[admitted.work]
        self._bytes -= admitted.nbytes

    def _no_longer_open(self, admitted: Admitted) -> None:
        self._open_all -= 1
        left = self._open.pop(admitted.work.source) - 1
        if left:
            self._open[admitted.work.source] = left

    def _end(
        self,
        admitted: Admitted,
        status: str,
        reason: str,
        detail: str,
        path: Tuple[Visit, ...],
        payload: Any,
        nbytes: int,
    ) -> None:
        admitted.status, admitted.reason, admitted.detail, admitted.path = status, reason, detail, path
        admitted.latency_s = self._context.now - admitted.born
        self._bytes += nbytes - admitted.nbytes
        admitted.payload, admitted.nbytes = payload, nbytes
        self._no_longer_open(admitted)
        self._context.timers.drop(self._deadline, admitted.work)
        self._ending += 1
        self._on_end(admitted.work)
        self._hops.ended((admitted.work,))
        source = self._context.sources.get(admitted.work.source)
        durable = source is not None and source.durability == "disk"
        self._context.emit(
            JournalFinal(
                admitted.work, admitted.digest, status, reason, detail, admitted.latency_s, path, payload, durable
            )  # fmt: skip
        )

    def _publish_end(self, admitted: Admitted) -> None:
        self._ending -= 1
        self._say_end(admitted, acknowledge=True)
        self._context.note(f"works_{admitted.status}")
        for peer in sorted(admitted.tell):
            self._context.emit(Send(peer, Finished((admitted.work,))))
        admitted.tell = set()
        if not self._finished:
            at = self._context.now + self._context.limits.finished_every_s
            self._context.timers.set(at, self._flush_in_time)
        self._finished.append(admitted.work)
        self.flush_finished()
        at = self._context.now + self._context.limits.answer_memory_s
        self._context.timers.set(at, self._expire, admitted.work)

    def _say(self, admitted: Admitted, status: str) -> None:
        self._context.emit(PublishResult(admitted.work, status, urgency=self._urgency(admitted)))

    def _say_end(self, admitted: Admitted, acknowledge: bool) -> None:
        self._context.emit(
            PublishResult(
                admitted.work,
                admitted.status,
                admitted.reason,
                admitted.detail,
                admitted.latency_s,
                admitted.path,
                admitted.payload,
                None,
                self._urgency(admitted),
                acknowledge,
                admitted.attempt,
                admitted.retried,
            )  # fmt: skip
        )

    def _expire(self, work: WorkId) -> None:
        admitted = self._works.get(work)
        if admitted is None or admitted.state not in ("ended", "delivered"):
            return
        admitted.step("expired")
        self._drop(admitted)
        self._context.emit(JournalForget(work))

    def _deadline(self, work: WorkId) -> None:
        admitted = self._works.get(work)
        if admitted is not None and admitted.due is not None and self._context.now >= admitted.due:
            self.give_up(admitted, Reason.DEADLINE, f"not answered within {admitted.due - admitted.born:.3f} s")

    def _flush_in_time(self, _: None) -> None:
        self.flush_finished(force=True)

    def _urgency(self, admitted: Admitted) -> float:
        """As its source says now: after a restart a work may be older than the allocation that names its source."""
        source = self._context.sources.get(admitted.work.source)
        return source.urgency(admitted.gamma) if source is not None else 1.0

    def _restore_open(self, record: OpenRecord) -> None:
        now = self._context.now
        admitted = Admitted(record.work, record.digest, record.payload, record.nbytes, now - record.age_s)
        admitted.gamma = record.gamma
        admitted.due = None if record.left_s is None else now + record.left_s
        admitted.attempt = admitted.attempt_restored = record.attempt
        self._keep(admitted)
        admitted.step("journaled")
        self._context.note("works_restored")
        self._say(admitted, "admitted")
        if admitted.due is not None:
            self._context.timers.set(admitted.due, self._deadline, admitted.work)
        self._on_open(admitted)

    def _restore_final(self, record: FinalRecord) -> None:
        now = self._context.now
        admitted = Admitted(record.work, record.digest, record.payload, record.nbytes, now - record.age_s)
        admitted.status, admitted.reason, admitted.detail = record.status, record.reason, record.detail
        admitted.latency_s, admitted.path = record.latency_s, record.path
        admitted.state = "delivered" if record.delivered else "ended"
        self._works[admitted.work] = admitted
        self._bytes += admitted.nbytes
        self._hops.ended((admitted.work,))
        if not record.delivered:
            self._say_end(admitted, acknowledge=True)
        at = max(now, now - record.age_s + self._context.limits.answer_memory_s)  # the age since its end
        self._context.timers.set(at, self._expire, admitted.work)
