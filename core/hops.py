"""A work's way through this device: it comes, its segment runs, it is handed over, and kept until it is passed on.

This file moves works between the places of ``holdings``; who is asked and who is cleared is decided in ``placing``,
``asking`` and ``room``, and what happens when a neighbour or a time is lost in ``losses``. After a hop the sender
keeps the tensor until the receiver's own next hop has taken it, so a work in flight is on two devices, and when one
dies the other sends it on again from the same boundary. Doing so twice is harmless: keys tell duplicates apart, and
the head publishes one answer.
"""

from typing import Any, Callable, Iterable, List

from pamdi.core.context import Context
from pamdi.core.errors import Reason
from pamdi.core.events import InferenceFailed, Inferred, InferredTogether, Received
from pamdi.core.holdings import Held, Holdings, Upstream
from pamdi.core.instructions import Send
from pamdi.core.messages import Answer, Finished, PassedOn, Refusal, Taken, Tensor
from pamdi.core.peers import Peers
from pamdi.core.placing import Placing
from pamdi.core.remembered import Remembered
from pamdi.core.segment import Segment
from pamdi.core.slots import Slots
from pamdi.core.work import Key, Visit, Work, WorkId

# To the head, when it is this device: the work, its output, or the reason why it has none and a sentence.
AnswerHere = Callable[[Work, Any, int, str, str], None]


class Hops:
    def __init__(
        self, context: Context, holdings: Holdings, remembered: Remembered, slots: Slots, peers: Peers, placing: Placing
    ) -> None:
        self._context = context
        self._holdings = holdings
        self._remembered = remembered
        self._slots = slots
        self._peers = peers
        self._placing = placing
        self.compute = placing.compute
        self.room = placing.room
        self.asking = placing.asking
        self.answer_here: AnswerHere

    # -- a work comes ------------------------------------------------------------------------------------------

    def begin(self, work: Work, payload: Any, nbytes: int) -> None:
        """The head starts (or replays) a work at boundary 0."""
        self._remembered.raise_attempt(work.key.work, work.key.attempt)
        for held in self._holdings.of(work.key.work):
            self._placing.forget(held)
        held = Held(work, payload, nbytes, self._context.now)
        self._holdings.add(held)
        self._placing.seek(held)

    def tensor(self, event: Received, message: Tensor) -> None:
        key, peer = message.work.key, event.peer
        self._peers.lag.seen(event.transit_s - self._peers.transfer_s(peer, event.nbytes))
        if self.answer_known(peer, key):
            self.room.withdrawn(peer, key)
            return
        why = self._unwelcome(event, message.work)
        if why:
            self._context.note("tensors_refused")
            self._context.emit(Send(peer, Refusal(key, why, self.room.backlog())))
            return
        now = self._context.now
        held = Held(message.work, event.payload, event.nbytes, now - event.transit_s)
        held.since = held.arrived = now
        held.transfer_s = event.transit_s
        held.upstream = Upstream(peer, key)
        self._remembered.took(key, peer)
        self._erase_lower_attempts(key)
        self._holdings.add(held)
        self._context.emit(Send(peer, Taken(key)))
        if self._slots.can_still_run(held.model, key.boundary) is None:
            self._placing.seek(held)
        else:
            self._placing.enqueue(held)

    def answer_known(self, peer: str, key: Key) -> bool:
        """A duplicate is answered with what is known of it. Returns whether it was one."""
        if self._remembered.has_ended(key.work):
            self._context.emit(Send(peer, Finished((key.work,))))
        elif self._remembered.has_passed(key) or key.attempt < self._remembered.attempt(key.work):
            self._context.emit(Send(peer, PassedOn(key)))
        elif self._remembered.has_passed(key) is False or key in self._holdings:
            self._context.emit(Send(peer, Taken(key)))
        else:
            return False
        self._context.note("duplicates_suppressed")
        return True

    def _unwelcome(self, event: Received, work: Work) -> str:
        """Why this tensor is not taken, or "". With a promise it always is; without, if there is room."""
        if event.nbytes > self._context.limits.tensor_bytes_max:
            return "too_large"
        if self.room.use(work.key, event.peer):
            return ""
        boundary = work.key.boundary
        why = self.room.objection(work.model, boundary, event.nbytes)
        return why or ("" if self.room.has_room(work.urgency, work.model, boundary) else "busy")

    # -- a segment has run ---------------------------------------------------------------------------------------

    def inferred(self, event: Inferred) -> None:
        segment = self.compute.segment
        if segment is None or not self._is_running(event.key):
            return
        started_at = self.compute.started_at
        (held,) = self.compute.finish()
        self._slots.measured(segment, event.compute_s)
        self._ran(held, segment, started_at, event.payload, event.nbytes, event.compute_s)

    def inferred_together(self, event: InferredTogether) -> None:
        """Each work of the batch goes its own way, or fails alone. What a batch took is no measure of one."""
        segment = self.compute.segment
        if segment is None or not self._is_in_the_air([outcome.key for outcome in event.outcomes]):
            return
        started_at = self.compute.started_at
        for held, outcome in zip(self.compute.finish(), event.outcomes):
            if outcome.detail:
                self._failed(held, segment, outcome.detail)
            else:
                self._ran(held, segment, started_at, outcome.payload, outcome.nbytes, event.compute_s)

    def _is_running(self, key: Key) -> bool:
        """Whether it is in the air, and alone."""
        batch = self.compute.batch
        return (len(batch) == 1 and batch[0].key == key) or self._is_in_the_air([key])

    def _is_in_the_air(self, keys: List[Key]) -> bool:
        if [held.key for held in self.compute.batch] == keys:
            return True
        self._context.note("results_unexpected", f"{', '.join(map(str, keys))} was not running here")
        return False

    def _ran(
        self, held: Held, segment: Segment, started_at: float, payload: Any, nbytes: int, compute_s: float
    ) -> None:
        if self._holdings.get(held.key) is not held:
            self._context.note("results_of_ended_works")
            return
        following = held.key.at(segment.stop)
        if following in self._holdings:  # the same work came here by another way, and is further on
            self._context.note("duplicates_suppressed")
            self.tell_upstream(held)
            self._placing.forget(held)
            return
        visit = Visit(
            segment.first, segment.stop, self._context.device, started_at - held.arrived, compute_s, held.transfer_s,
            started_at - held.born,
        )  # fmt: skip
        held.path += (visit,)
        held.payload, held.nbytes = payload, nbytes
        held.transfer_s, held.arrived, held.continuing, held.failed_here = 0.0, self._context.now, True, False
        self._holdings.rekey(held, following)
        self._go_on(held)

    def _go_on(self, held: Held) -> None:
        model = self._context.models.get(held.model)
        ask = self.asking.get(held.key)
        if model is not None and held.key.boundary >= model.units:
            self.answer(held)
        elif ask is None:
            self._placing.go_on(held)
        elif ask.granted:
            self._send(held, ask.peer)
        else:
            self._placing.await_clearance(held)

    def inference_failed(self, event: InferenceFailed) -> None:
        """The segment could not run on this input. Another device may do better; an input that no device can run
        must not be tried for ever."""
        segment = self.compute.segment
        if segment is None or not self._is_running(event.key):
            return
        (held,) = self.compute.finish()
        self._failed(held, segment, event.detail)

    def _failed(self, held: Held, segment: Segment, detail: str) -> None:
        self.asking.withdraw(held.key.at(segment.stop))
        if self._holdings.get(held.key) is held:
            self._context.note("inferences_failed", f"{held.key.work}: {detail}")
            held.failed_here = True
            self.again(held, detail)

    # -- a hand-over goes on -------------------------------------------------------------------------------------

    def cleared(self, peer: str, key: Key) -> None:
        """Our RTC was granted: if the tensor is ready, it goes."""
        held = self._holdings.get(key)
        if held is not None and held.place == "asking":
            self._send(held, peer)

    def refused(self, peer: str, key: Key) -> None:
        """Our request or our tensor was refused: the next best."""
        held = self._holdings.get(key)
        if held is not None and held.place == "sent" and held.peer == peer:
            self._placing.seek(held)

    def taken(self, peer: str, key: Key) -> None:
        """``peer`` has it, be it that we have just sent it or that we asked for what it had taken before."""
        held = self._holdings.get(key)
        if held is None or held.place in ("running", "backup", "answering"):
            return
        if held.place == "sent" and held.peer != peer:
            return
        if held.place == "sent":
            self._peers.lag.seen(self._context.now - held.since - self._peers.transfer_s(peer, held.nbytes))
        ask = self.asking.get(key)
        if ask is not None and ask.peer == peer:
            self.asking.done(key)
        self._placing.left(held)
        self.tell_upstream(held)
        self._keep(held, "backup", peer)

    def passed_on(self, peer: str, key: Key) -> None:
        """What we handed on is on its way from there; our copy may go."""
        held = self._holdings.get(key)
        if held is None or held.place in ("running", "answering"):
            return
        if held.place in ("sent", "backup") and held.peer != peer:
            return
        self.tell_upstream(held)
        self._placing.forget(held)

    def ended(self, works: Iterable[WorkId]) -> None:
        """Forget everything about these works; a segment that computes for one of them runs out unheard."""
        for work in works:
            for held in self._holdings.of(work):
                self._placing.forget(held)
            self.room.ended(work)
            self._remembered.end(work)

    def again(self, held: Held, detail: str) -> None:
        """Whoever had it has lost it: to the next, or to its head with the reason when too many have."""
        held.resent += 1
        source = self._context.sources.get(held.key.source)
        if held.resent >= (source.attempts_max if source is not None else 3):
            self.answer(held, Reason.ATTEMPTS.value, detail)
        else:
            self._placing.seek(held)

    def answer(self, held: Held, error: str = "", detail: str = "") -> None:
        """The model's end is reached, or given up: to the head, which may be this device."""
        self._placing.left(held)
        if held.head == self._context.device:
            self.tell_upstream(held)
            self._placing.forget(held)
            self.answer_here(held.header(self._context.now), held.payload, held.nbytes, error, detail)
            return
        held.error = error
        self._keep(held, "answering", held.head)
        self.send_answer(held)

    def send_answer(self, held: Held) -> None:
        payload = None if held.error else held.payload
        message = Answer(held.header(self._context.now), error=held.error)
        if self._peers.is_up(held.head):
            self._context.emit(Send(held.head, message, payload, self._placing.klass(held)))

    def tell_upstream(self, held: Held) -> None:
        if held.upstream is not None:
            self._remembered.passed(held.upstream.key)
            self._context.emit(Send(held.upstream.peer, PassedOn(held.upstream.key)))
            held.upstream = None

    def let_go(self, held: Held) -> None:
        """A kept copy goes for want of room or time. Who handed us an answer's work may hand it to us again."""
        if held.upstream is not None:
            self._remembered.lost(held.upstream.key)

    def _send(self, held: Held, peer: str) -> None:
        self._placing.sent(held, peer)
        message = Tensor(held.header(self._context.now))
        self._context.emit(Send(peer, message, held.payload, self._placing.klass(held)))

    def _keep(self, held: Held, place: str, peer: str) -> None:
        self._holdings.move(held, place, peer)
        for dropped in self._holdings.trim():
            self._context.note("backups_dropped", f"no room to keep {dropped.key.work} for {dropped.peer}")
            self.let_go(dropped)

    def _erase_lower_attempts(self, key: Key) -> None:
        for held in self._holdings.of(key.work):
            if held.key.attempt < key.attempt:
                self._placing.forget(held)
