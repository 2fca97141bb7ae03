"""The pretend world: devices, links, a broker and clients on one heap, in virtual time, from one seed.

It does with a heap what the daemon does with sockets and threads: acts on the core's instructions and feeds the outcome
back as events. Nothing is decided here. What crashes loses everything but its journal; what is on its way on a
connection that breaks is lost.
"""

from typing import Any, Callable, Dict, List, Optional, Tuple, Type

from pamdi.controller.objective import piece_seconds
from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.device import Device
from pamdi.core.segment import Segment
from pamdi.core.work import Key
from pamdi.simulator.clients import Client, Piece
from pamdi.simulator.collector import seldom
from pamdi.simulator.connections import Connections
from pamdi.simulator.documents import Documents, Placing, place
from pamdi.simulator.heap import WAKE, Heap
from pamdi.simulator.machine import NEVER, Machine, Parcel
from pamdi.simulator.scenario import Scenario
from pamdi.simulator.server import Transfer
from pamdi.simulator.ways import is_large
from pamdi.simulator.wire import control_bytes

WARM_UP_S = 1.0  # the fleet comes up before its clock of arrivals and faults starts
SETTLE_S = 1.0  # after the last end: a second answer for an id would come about now


class Watcher:
    """Sees every event of every device. The plain one looks away; ``promises.Promises`` does not."""

    def handled(self, machine: Machine, event: ev.AnyEvent, said: List[ins.AnyInstruction]) -> None:
        raise NotImplementedError

    def crashed(self, machine: Machine) -> None:
        raise NotImplementedError

    def published(self, machine: Machine, result: ins.PublishResult) -> None:
        raise NotImplementedError


class World:
    """``placing``: who holds what, solved once for all runs that share it."""

    def __init__(
        self, scenario: Scenario, policy: str, seed: int, placing: Optional[Placing] = None,
        watcher: Optional[Watcher] = None,
    ) -> None:  # fmt: skip
        self.scenario, self.policy, self.settings = scenario, policy, scenario.run
        self.heap = Heap()
        self.watcher = watcher
        self.counters: Dict[str, int] = {}
        self.epoch = 1
        self.events_max = 10**12
        self.placing = placing = placing or place(scenario, policy)
        self.documents = Documents(scenario, policy, placing)
        self.machines = {device.id: Machine(device.id, seed) for device in scenario.device}
        for id, machine in self.machines.items():
            machine.units = placing.holds.get(id, frozenset())
        self.connections = Connections(self, placing)
        self._large = is_large(scenario)
        models = {model.id: model for model in scenario.model}
        self._bytes = {id: model.bytes for id, model in models.items()}
        self._models = models
        self._types = {device.id: device for device in scenario.device}
        self._seconds: Dict[Tuple[str, Segment], float] = {}
        self.clients: Dict[str, Client] = {}
        sources = {source.id: source for source in scenario.source}
        for entry in scenario.arrivals:
            source = sources[entry.source].spec()
            self.clients[source.id] = Client(
                self.heap, source, entry, seed, WARM_UP_S, models[source.model].bytes[0], self._submit,
                bool(scenario.fault),
            )  # fmt: skip
        self._doers = self._make_doers()
        self._sized: Optional[ms.AnyMessage] = None
        self._sized_bytes = 0

    # -- a run -----------------------------------------------------------------------------------------------------

    def run(self, patience_s: float) -> None:
        """Until every work has ended (and a little longer), until ``duration_s``, or until ``patience_s`` after the
        last arrival: what has no end by then never gets one."""
        with seldom():
            self._run(patience_s)

    def _run(self, patience_s: float) -> None:
        for machine in self.machines.values():
            self.start(machine)
        for client in self.clients.values():
            client.begin()
        if self.settings.duration_s is not None:
            self.heap.run(WARM_UP_S + self.settings.duration_s, lambda: False)
            return
        self.heap.run(NEVER, lambda: self._restless() or all(client.made_all for client in self.clients.values()))
        until = self.heap.now + patience_s
        self.heap.run(until, lambda: self._restless() or all(client.done() for client in self.clients.values()))
        self.heap.run(self.heap.now + SETTLE_S, self._restless)

    def _restless(self) -> bool:
        """False. Raises RuntimeError beyond ``events_max``: a world that does not come to rest."""
        if self.heap.pops > self.events_max:
            raise RuntimeError(f"more than {self.events_max} events, the last at {self.heap.now:.1f} s")
        return False

    def feed(self, machine: Machine, event: ev.AnyEvent) -> None:
        """The one way into a device."""
        device = machine.device
        if device is None:
            return
        said = device.handle(event, self.heap.now)
        doers = self._doers
        for instruction in said:
            doers[type(instruction)](machine, instruction)
        if self.watcher is not None:
            self.watcher.handled(machine, event, said)
        wake = device.wake_at()
        if wake is not None and wake < machine.alarm_at:
            machine.alarm_at = wake
            self.heap.put(wake, self._alarm, (machine, machine.life, wake), WAKE)

    def later(self, machine: Machine, delay_s: float, event: ev.AnyEvent) -> None:
        """``event`` for this life of ``machine``."""
        self.heap.put(self.heap.now + delay_s, self._feed_life, (machine, machine.life, event))

    def _feed_life(self, argument: Tuple[Machine, int, ev.AnyEvent]) -> None:
        machine, life, event = argument
        if machine.life == life:
            self.feed(machine, event)

    def _alarm(self, argument: Tuple[Machine, int, float]) -> None:
        machine, life, at = argument
        if machine.life != life or machine.device is None or machine.alarm_at != at:
            return
        machine.alarm_at = NEVER
        wake = machine.device.wake_at()
        if wake is None:
            return
        if wake <= self.heap.now:
            self.feed(machine, ev.Woken())
        else:
            machine.alarm_at = wake
            self.heap.put(wake, self._alarm, (machine, life, wake), WAKE)

    # -- lives -----------------------------------------------------------------------------------------------------

    def start(self, machine: Machine) -> None:
        """A new life: the journal is read, the allocation is remembered, links come up."""
        if machine.device is not None:
            return
        machine.life += 1
        machine.device = Device(machine.id, self.settings.limits)
        machine.running, machine.alarm_at = None, NEVER
        self.feed(machine, machine.journal.restore(self.heap.now))
        self.allocate(machine)
        self.connections.started(machine)

    def crash(self, machine: Machine) -> None:
        """kill -9."""
        if machine.device is None:
            return
        if machine.running is not None:
            machine.busy_s += self.heap.now - machine.started_at
        machine.device, machine.running = None, None
        machine.life += 1
        if self.watcher is not None:
            self.watcher.crashed(machine)
        self.connections.crashed(machine)

    def allocate(self, machine: Machine) -> None:
        self.feed(machine, ev.AllocationReceived(self.documents.of(machine.id, self.epoch, machine.units)))

    # -- clients ---------------------------------------------------------------------------------------------------

    def _submit(self, client: Client, event: ev.Submitted) -> None:
        head = self.machines[client.source.device]
        self.heap.put(self.heap.now + self.settings.submit_s, self._feed_any, (head, event))

    def _feed_any(self, argument: Tuple[Machine, ev.AnyEvent]) -> None:
        """The broker does not care which life of the head hears it."""
        self.feed(*argument)

    def _heard(self, argument: Tuple[Machine, int, ins.PublishResult]) -> None:
        machine, life, result = argument
        client = self.clients.get(result.work.source)
        if client is not None:
            client.heard(result)
        if result.acknowledge and machine.life == life:
            machine.journal.delivered(result.work)
            self.feed(machine, ev.ResultDelivered(result.work))

    # -- instructions ----------------------------------------------------------------------------------------------

    def _make_doers(self) -> Dict[Type[Any], Callable[[Machine, Any], None]]:
        return {
            ins.Send: self._send,
            ins.Infer: self._infer,
            ins.InferTogether: self._infer_together,
            ins.Load: self._load,
            ins.Unload: self._unload,
            ins.JournalOpen: self._keep,
            ins.JournalAttempt: lambda machine, i: machine.journal.attempt(i),
            ins.JournalFinal: self._keep,
            ins.JournalForget: lambda machine, i: machine.journal.forget(i.work),
            ins.PublishResult: self._publish,
            ins.PublishAllocation: _nothing,
            ins.PublishBeacon: _nothing,
            ins.SetNeighbours: _nothing,
            ins.Note: self._note,
            ins.Stopped: _nothing,
        }

    def _send(self, machine: Machine, i: ins.Send) -> None:
        peer, heap = machine.peers.get(i.peer), self.heap
        if peer is None or not peer.pair.up:
            return
        if i.payload is not None:
            self._leave(Parcel(machine, peer, peer.pair.life, i, i.payload.nbytes, heap.now))
            return
        if i.message is not self._sized:  # what goes to all neighbours is measured once
            self._sized, self._sized_bytes = i.message, control_bytes(i.message)
        nbytes, line = self._sized_bytes, peer.lines[0]
        parcel = Parcel(machine, peer, peer.pair.life, i, nbytes, heap.now)
        heap.put(line.server.say(line, nbytes) + line.delay_s, self._arrive, parcel)

    def _leave(self, parcel: Parcel) -> None:
        """Onto the next line of the way."""
        line = parcel.peer.lines[parcel.leg]
        if parcel.send.payload is None:
            self.heap.put(line.server.say(line, parcel.nbytes) + line.delay_s, self._arrive, parcel)
        else:
            left = float(parcel.nbytes)
            line.server.put(Transfer(line, left, parcel.send.urgency, self._left, Parcel.alive, parcel))

    def _left(self, transfer: Transfer) -> None:
        self.heap.put(self.heap.now + transfer.line.delay_s, self._arrive, transfer.parcel)

    def _arrive(self, parcel: Parcel) -> None:
        peer, send = parcel.peer, parcel.send
        pair = peer.pair
        if pair.life != parcel.life:
            return
        if pair.cut:
            pair.held.append(parcel)
            return
        parcel.leg += 1
        if parcel.leg < len(peer.lines):
            self._leave(parcel)
            return
        if self._large and isinstance(send.message, ms.Tensor):
            self.connections.reach(peer.to, send.message.work.head)
        nbytes = 0 if send.payload is None else parcel.nbytes
        transit_s = self.heap.now - parcel.sent_at
        self.feed(peer.to, ev.Received(parcel.sender.id, send.message, send.payload, nbytes, transit_s))

    def bring(self, parcels: List[Parcel]) -> None:
        """What a cut had held."""
        for parcel in parcels:
            self.heap.put(self.heap.now, self._arrive, parcel)

    def _infer(self, machine: Machine, i: ins.Infer) -> None:
        self._compute(machine, i.key, self.seconds(machine.id, i.segment), self._inferred, i)

    def _inferred(self, argument: Tuple[Machine, int, ins.Infer, float]) -> None:
        machine, life, i, seconds = argument
        if not self._has_run(machine, life, seconds):
            return
        stop = i.segment.stop
        nbytes = self._bytes[i.segment.model][stop]
        self.feed(machine, ev.Inferred(i.key, Piece(nbytes, i.payload.work, stop), nbytes, seconds))

    def _infer_together(self, machine: Machine, i: ins.InferTogether) -> None:
        calibrated = self._by_batch(machine.id, i.segment)
        seconds = next(s for batch, s in calibrated if batch >= len(i.parts))
        self._compute(machine, i.parts[0].key, seconds, self._inferred_together, i)

    def _inferred_together(self, argument: Tuple[Machine, int, ins.InferTogether, float]) -> None:
        machine, life, i, seconds = argument
        if not self._has_run(machine, life, seconds):
            return
        stop = i.segment.stop
        nbytes = self._bytes[i.segment.model][stop]
        outcomes = [ev.Outcome(part.key, Piece(nbytes, part.payload.work, stop), nbytes) for part in i.parts]
        self.feed(machine, ev.InferredTogether(tuple(outcomes), seconds))

    def _compute(self, machine: Machine, key: Key, calibrated_s: float, then: Callable[[Any], None], i: Any) -> None:
        """``then`` comes when the machine has run what it was told, as slow as it is now."""
        seconds = calibrated_s * machine.slow
        if self.settings.jitter:
            seconds *= 1.0 + self.settings.jitter * machine.random.uniform(-1.0, 1.0)
        machine.running, machine.started_at = key, self.heap.now
        self.heap.put(self.heap.now + seconds, then, (machine, machine.life, i, seconds))

    def _has_run(self, machine: Machine, life: int, seconds: float) -> bool:
        """False where the machine has died meanwhile."""
        if machine.life != life:
            return False
        machine.running = None
        machine.busy_s += seconds
        return True

    def _by_batch(self, id: str, segment: Segment) -> Tuple[Tuple[int, float], ...]:
        device = self._types[id]
        return self._models[segment.model].by_batch(device.type, segment.first, segment.stop, device.overhead_s)

    def seconds(self, id: str, segment: Segment) -> float:
        """Calibrated, plus the device's overhead, which every visit pays."""
        known = self._seconds.get((id, segment))
        if known is None:
            device = self._types[id]
            model = self._models[segment.model]
            known = piece_seconds(model, device.type, segment.first, segment.stop) + device.overhead_s
            self._seconds[id, segment] = known
        return known

    def _load(self, machine: Machine, i: ins.Load) -> None:
        batch_max = max((batch for batch, _ in self._by_batch(machine.id, i.segment)), default=1)
        self.later(machine, self.settings.load_s, ev.EngineLoaded(i.segment, batch_max))

    def _unload(self, machine: Machine, i: ins.Unload) -> None:
        self.later(machine, 0.0, ev.EngineUnloaded(i.segment))

    def _keep(self, machine: Machine, i: Any) -> None:
        self.heap.put(self.heap.now + self.settings.journal_s, self._kept, (machine, machine.life, i))

    def _kept(self, argument: Tuple[Machine, int, Any]) -> None:
        """A record that was on its way when the process died was never written."""
        machine, life, record = argument
        if machine.life != life:
            return
        final = isinstance(record, ins.JournalFinal)
        if final:
            machine.journal.final(record, self.heap.now)
        else:
            machine.journal.open(record, self.heap.now)
        self.feed(machine, ev.JournalWritten(record.work, final))

    def _publish(self, machine: Machine, i: ins.PublishResult) -> None:
        if self.watcher is not None:
            self.watcher.published(machine, i)
        self.heap.put(self.heap.now + self.settings.result_s, self._heard, (machine, machine.life, i))

    def _note(self, machine: Machine, i: ins.Note) -> None:
        self.counters[i.counter] = self.counters.get(i.counter, 0) + 1


def _nothing(machine: Machine, i: Any) -> None:
    pass


__all__ = ["WARM_UP_S", "Watcher", "World"]
