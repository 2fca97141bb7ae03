"""Back end ``tensorrt``: engines that ``pamdi engines build`` made on a board of this type.

An engine is loaded only when it fits this device (see ``fitting``) and its file is what the manifest says. Its buffers
are taken once, for the largest batch of its profile: device memory and pinned host memory per tensor, twice. For two
works may be in flight: while one computes, the next one's inputs are copied on a stream of their own, and the outputs
of the one before on another; events say who waits for whom, and answers come in the order in which works were begun.
Urgent works have streams that the GPU serves first. Segments that follow each other on this board hand over on the
device: the next engine reads where the last one wrote. Unloading gives back all.

Every call makes the GPU's context its thread's own while it lasts: a daemon loads in one thread and runs in another.
"""

from collections import Counter, deque
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from pamdi.core.errors import BadInput, EngineError
from pamdi.core.segment import Segment
from pamdi.engines.backend import Arrays, Outcome, check_tensors
from pamdi.engines.device_memory import DeviceMemory, Pinned, open_device_memory
from pamdi.engines.fitting import Device, fits
from pamdi.engines.here import this_machine
from pamdi.engines.manifest import EngineInfo, Manifest, TensorInfo, checked_file, read_manifest
from pamdi.engines.tensorrt_builder import Bindings, open_bindings
from pamdi.engines.tensorrt_runs import Runs
from pamdi.engines.tensorrt_together import run_works
from pamdi.engines.tensorrt_versions import cannot

IN_FLIGHT_MAX = 2  # works begun and not finished; as many places as each engine has


class Buffer(NamedTuple):
    """One tensor's place on the device and its double on the host, both for the largest batch."""

    info: TensorInfo
    address: int
    pinned: Pinned


class Place(NamedTuple):
    """Where one work in flight has its tensors: by name, those that the engine takes and makes."""

    inputs: Dict[str, Buffer]
    outputs: Dict[str, Buffer]


class Loaded(NamedTuple):
    """``entering``, ``leaving``: all that crosses the segment's boundaries, so also what goes around the engine.
    ``batches``: smallest and largest."""

    segment: Segment
    runs: Runs
    places: Tuple[Place, ...]
    entering: Tuple[TensorInfo, ...]
    leaving: Tuple[TensorInfo, ...]
    batches: Tuple[int, int]


class Streams(NamedTuple):
    """Of one urgency: inputs, engines and outputs each go their own way."""

    inwards: int
    compute: int
    outwards: int


class Marks(NamedTuple):
    """Events of one place in flight: its inputs are in, its engines are done, its outputs are out."""

    copied: int
    computed: int
    done: int


class Flight(NamedTuple):
    """A work begun. ``made``: what it leaves on the device; ``around``: what it leaves that never was there."""

    number: int
    last: Loaded
    batch: int
    stream: int
    made: Dict[str, Buffer]
    around: Arrays


class Kept(NamedTuple):
    """The answer given last, and where it still is on the device."""

    arrays: Arrays
    number: int
    made: Dict[str, Buffer]


class TensorRTBackend:
    """One thread runs, another may load. The arguments stand for the real things in tests. ``counters``: see Runs."""

    in_flight_max = IN_FLIGHT_MAX

    def __init__(
        self,
        bindings: Optional[Bindings] = None,
        memory: Optional[DeviceMemory] = None,
        device: Optional[Device] = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._bindings = bindings or open_bindings("tensorrt")
        for reason in cannot(self._bindings.row, ()):
            raise EngineError(reason)
        self._memory = memory or open_device_memory()
        self._log = log
        self.counters: "Counter[str]" = Counter()
        self._number = 0
        self._flights: Deque[Flight] = deque()
        self._kept: Optional[Kept] = None
        with self._memory.current():
            self._device = device or self._this_device()
            self._runtime = self._bindings.trt.Runtime(self._bindings.trt.Logger(self._bindings.trt.Logger.WARNING))
            self._streams = {
                urgent: Streams(*(self._memory.stream(urgent) for _ in Streams._fields)) for urgent in (False, True)
            }
            self._marks = [Marks(*(self._memory.event() for _ in Marks._fields)) for _ in range(IN_FLIGHT_MAX)]

    def _this_device(self) -> Device:
        here, capability = this_machine(), self._memory.compute_capability()
        return Device(here.device_type or f"x86-{capability}", capability, self._bindings.version, here.cuda, here.l4t)

    # -- loading ---------------------------------------------------------------------------------------------------

    def load(self, folder: Path, segment: Segment) -> Loaded:
        manifest = read_manifest(folder)
        info = manifest.segment(segment.first, segment.stop)
        built = self._fitting(folder, manifest, segment, info.sha256)
        plan = checked_file(folder, built.file, built.sha256).read_bytes()
        with self._memory.current():
            return self._loaded(folder / built.file, plan, manifest, segment, built)

    def _loaded(self, path: Path, plan: bytes, manifest: Manifest, segment: Segment, built: EngineInfo) -> Loaded:
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f"{path}: TensorRT {self._bindings.version} cannot load it: build it again")
        entering, leaving = manifest.boundaries[segment.first], manifest.boundaries[segment.stop]
        takes, makes = self._crossing(engine, built, entering, True), self._crossing(engine, built, leaving, False)
        lost = {about.name for about in leaving} - {about.name for about in (*makes, *entering)}
        if lost:
            raise EngineError(f"{path}: neither makes nor passes on {sorted(lost)}: build it again")
        taken: List[Buffer] = []
        try:
            places = tuple(
                Place(
                    *(
                        {about.name: self._buffer(about, built.batches[2], taken) for about in all}
                        for all in (takes, makes)
                    )
                )
                for _ in range(IN_FLIGHT_MAX)
            )
            runs = Runs(str(segment), engine, self._bindings, self._memory, self._log, self.counters)
        except Exception:
            self._give_back(taken)
            raise
        return Loaded(segment, runs, places, entering, leaving, (built.batches[0], built.batches[2]))

    def _fitting(self, folder: Path, manifest: Manifest, segment: Segment, sha256: str) -> EngineInfo:
        """The segment's engine for this device, one in INT8 only where there is no other. Raises EngineError with why
        each of those there are does not fit."""
        reason = ""
        for built in sorted(manifest.engines, key=lambda one: one.precision == "int8"):
            if (built.first, built.stop, built.backend) == (segment.first, segment.stop, "tensorrt"):
                reason = fits(built, self._device, sha256, str(folder))
                if not reason:
                    if built.precision == "int8":
                        self._log(
                            f"{segment}: runs in INT8, there is no other engine for it ({'; '.join(built.flags)})"
                        )
                    return built
        command = f"pamdi engines build {folder} --device {self._device.device_type}"
        raise EngineError(reason or f"{segment}: no TensorRT engine in {folder}: on this device run `{command}`")

    def _crossing(
        self, engine: Any, built: EngineInfo, boundary: Sequence[TensorInfo], entering: bool
    ) -> List[TensorInfo]:
        """The tensors that the engine takes or makes. Raises EngineError where it is not what the manifest says."""
        mode = self._bindings.trt.TensorIOMode
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        names = [name for name in names if (engine.get_tensor_mode(name) == mode.INPUT) == entering]
        known = {about.name: about for about in boundary}
        if not set(names) <= set(known):
            raise EngineError(
                f"{built.file}: has tensors {sorted(names)}, the manifest {sorted(known)}: build it again"
            )
        return [known[name] for name in names]

    def _buffer(self, about: TensorInfo, batch: int, taken: List[Buffer]) -> Buffer:
        nbytes = max(about.item_bytes * (batch if "batch" in about.shape else 1), 1)
        address = self._memory.take(nbytes)
        try:
            pinned = self._memory.take_pinned(nbytes)
        except Exception:
            self._memory.give_back(address)
            raise
        taken.append(Buffer(about, address, pinned))
        return taken[-1]

    def unload(self, handle: Loaded) -> None:
        with self._memory.current():
            self._kept = None
            for streams in self._streams.values():
                for stream in streams:
                    self._memory.wait(stream)
            handle.runs.give_back()
            for place in handle.places:
                self._give_back([*place.inputs.values(), *place.outputs.values()])
                place.inputs.clear()
                place.outputs.clear()

    def _give_back(self, buffers: Sequence[Buffer]) -> None:
        for buffer in buffers:
            self._memory.give_back(buffer.address)
            self._memory.give_back_pinned(buffer.pinned)

    def close(self) -> None:
        """Give back what the back end itself has. Its segments are unloaded before."""
        with self._memory.current():
            for streams in self._streams.values():
                for stream in streams:
                    self._memory.give_back_stream(stream)
            for marks in self._marks:
                for event in marks:
                    self._memory.give_back_event(event)
        self._streams, self._marks = {}, []

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self, handle: Loaded, tensors: Mapping[str, "np.ndarray"], urgent: bool = False) -> Arrays:
        return self.run_chain([handle], tensors, urgent)

    def run_chain(self, handles: Sequence[Loaded], tensors: Mapping[str, "np.ndarray"], urgent: bool = False) -> Arrays:
        """Run segments that follow each other; what passes between them never leaves the device."""
        assert not self._flights, "works in flight are finished first"
        self.begin(handles, tensors, urgent)
        return self.finish()

    def begin(self, handles: Sequence[Loaded], tensors: Mapping[str, "np.ndarray"], urgent: bool = False) -> None:
        """Put a work into the GPU's streams: copies in, engines, copies out. At most IN_FLIGHT_MAX are begun and not
        finished. Raises BadInput or EngineError, and then this work is not in flight."""
        assert len(self._flights) < IN_FLIGHT_MAX, "finish one first"
        check_tensors(tensors, handles[0].entering, str(handles[0].segment))
        batch = next(iter(tensors.values())).shape[0]
        for handle in handles:
            if not handle.batches[0] <= batch <= handle.batches[1]:
                raise BadInput(
                    f"{handle.segment}: batch {batch}; its engine takes {handle.batches[0]} to {handle.batches[1]}"
                )
        with self._memory.current():
            streams = self._streams[urgent]
            try:
                self._flights.append(self._put(handles, tensors, batch, streams))
            except Exception:
                for stream in streams:  # nothing of it may still touch its place when another work gets that
                    self._memory.wait(stream)
                raise
        self._number += 1

    def _put(
        self, handles: Sequence[Loaded], tensors: Mapping[str, "np.ndarray"], batch: int, streams: Streams
    ) -> Flight:
        memory, number = self._memory, self._number
        marks, places = self._marks[number % IN_FLIGHT_MAX], [h.places[number % IN_FLIGHT_MAX] for h in handles]
        there = self._still_there(tensors)
        made: Dict[str, Buffer] = {}
        for handle, place in zip(handles, places):
            for name, buffer in place.inputs.items():
                if name not in there:
                    if name not in tensors:
                        raise BadInput(
                            f"{handle.segment}: does not follow: it takes {sorted(place.inputs)}, given {sorted(there)}"
                        )
                    self._copy_in(buffer, tensors[name], streams.inwards)
                    there[name] = buffer
            there.update(place.outputs)
            made.update(place.outputs)
        memory.mark(marks.copied, streams.inwards)
        memory.hold(streams.compute, marks.copied)
        for flight in self._flights:  # an engine is in one stream at a time; of one urgency it is the same stream
            if flight.stream != streams.compute:
                memory.hold(streams.compute, self._marks[flight.number % IN_FLIGHT_MAX].computed)
        self._compute(handles, places, self._still_there(tensors), batch, streams.compute)
        memory.mark(marks.computed, streams.compute)
        memory.hold(streams.outwards, marks.computed)
        leaving = {about.name for about in handles[-1].leaving}
        made = {name: buffer for name, buffer in made.items() if name in leaving}
        for buffer in made.values():
            memory.to_host(buffer.pinned, buffer.address, _nbytes(buffer.info, batch), streams.outwards)
        memory.mark(marks.done, streams.outwards)
        around = {name: tensors[name] for name in sorted(leaving - set(made))}
        return Flight(number, handles[-1], batch, streams.compute, made, around)

    def _still_there(self, tensors: Mapping[str, "np.ndarray"]) -> Dict[str, Buffer]:
        """Where these very arrays lie on the device, if they are the answer given last: it is not copied in again.
        Its place is another work's only after the next one."""
        kept = self._kept
        if kept is None or tensors is not kept.arrays or kept.number != self._number - 1:
            return {}
        return dict(kept.made)

    def _compute(
        self, handles: Sequence[Loaded], places: Sequence[Place], there: Dict[str, Buffer], batch: int, stream: int
    ) -> None:
        for handle, place in zip(handles, places):
            taken = {name: there.get(name, buffer) for name, buffer in place.inputs.items()}
            there.update({**taken, **place.outputs})
            shapes = {name: _shape(buffer.info, batch) for name, buffer in taken.items()}
            addresses = {name: buffer.address for name, buffer in [*taken.items(), *place.outputs.items()]}
            handle.runs.start(shapes, addresses, batch, stream)

    def _copy_in(self, buffer: Buffer, array: "np.ndarray", stream: int) -> None:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        buffer.pinned.array[: data.size] = data
        self._memory.to_device(buffer.address, buffer.pinned, data.size, stream)

    def finish(self) -> Arrays:
        """The answer of the work that was begun first of those in flight. Its arrays are the caller's to read."""
        flight = self._flights.popleft()
        with self._memory.current():
            self._memory.wait_for(self._marks[flight.number % IN_FLIGHT_MAX].done)
        answer: Arrays = {}
        for about in flight.last.leaving:
            if about.name in flight.made:
                pinned = flight.made[about.name].pinned.array[: _nbytes(about, flight.batch)]
                answer[about.name] = pinned.copy().view(about.dtype).reshape(_shape(about, flight.batch))
                answer[about.name].flags.writeable = False  # the device's copy stands for it, see _still_there
            else:
                answer[about.name] = flight.around[about.name]
        self._kept = Kept(answer, flight.number, flight.made)
        return answer

    # -- several works ---------------------------------------------------------------------------------------------

    def batch_max(self, handle: Loaded) -> int:
        joins = all(about.shape[:1] == ("batch",) for about in (*handle.entering, *handle.leaving))
        return handle.batches[1] if joins else 1

    def run_together(
        self, handle: Loaded, works: Sequence[Mapping[str, "np.ndarray"]], urgent: bool = False
    ) -> List[Outcome]:
        return run_works(self, handle, works, urgent)

    def describe(self) -> Dict[str, str]:
        return {
            "name": "tensorrt", "version": self._bindings.version, "precision": "as built",
            "device": f"{self._device.device_type}, compute capability {self._device.compute_capability}",
            "memory": self._memory.describe(),
        }  # fmt: skip


def _shape(about: TensorInfo, batch: int) -> Tuple[int, ...]:
    return tuple(size if isinstance(size, int) else batch for size in about.shape)


def _nbytes(about: TensorInfo, batch: int) -> int:
    return about.item_bytes * (batch if "batch" in about.shape else 1)
