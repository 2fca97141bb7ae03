"""Back end ``tensorrt``: engines that ``pamdi engines build`` made on a board of this type.

An engine is loaded only when it fits this device (see ``fitting``) and its file is what the manifest says. Its buffers
are taken once, for the largest batch of its profile: device memory and pinned host memory per tensor, inputs twice and
outputs three times. While one run computes, the next one's inputs are copied on a stream of their own (``prepare``, or
the next run of the same call), and the outputs of the one before on another; events say who waits for whom, and answers
come in the order in which runs were begun. Urgent works compute in a stream that the GPU serves first; for copies CUDA
knows no priorities. An answer stays on the device until it is read (``resident``): segments that follow each other on
this board hand over there, the next engine reads where the last one wrote. Unloading gives back all.

Every call makes the GPU's context its thread's own while it lasts: a daemon loads in one thread, runs in another,
prepares in a third, and reads answers wherever it wants.
"""

import itertools
import threading
from collections import Counter, deque
from pathlib import Path
from typing import Any, Callable, Deque, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from pamdi.core.errors import BadInput, EngineError
from pamdi.core.segment import Segment
from pamdi.engines.backend import Outcome, check_tensors
from pamdi.engines.device_memory import DeviceMemory, open_device_memory
from pamdi.engines.fitting import Device, fits
from pamdi.engines.here import this_machine
from pamdi.engines.manifest import EngineInfo, Manifest, TensorInfo, checked_file, read_manifest
from pamdi.engines.resident import Buffer, Place, Resident, Slice, nbytes_of, where_of
from pamdi.engines.tensorrt_builder import Bindings, open_bindings
from pamdi.engines.tensorrt_inputs import Inputs, Sources, Work, inputs_for, lying_together, places_of
from pamdi.engines.tensorrt_runs import Runs
from pamdi.engines.tensorrt_together import run_works
from pamdi.engines.tensorrt_versions import cannot

IN_FLIGHT_MAX = 2  # runs begun and not finished; as many sets of inputs as each engine has
PLACES = 3  # for an engine's outputs: those in flight, and one for an answer that waits for its next segment


class Loaded(NamedTuple):
    """``entering``, ``leaving``: all that crosses the segment's boundaries, so also what goes around the engine.
    ``batches``: smallest and largest. ``inputs`` and ``places`` are empty once it is unloaded."""

    segment: Segment
    runs: Runs
    inputs: List[Inputs]
    places: List[Place]
    entering: Tuple[TensorInfo, ...]
    leaving: Tuple[TensorInfo, ...]
    batches: Tuple[int, int]


class Flight(NamedTuple):
    """A run begun. ``sources``: where its works' tensors are, by work, each with its size in the batch; ``reads``: the
    places in which some of them lie. ``works`` keeps them there."""

    handle: Loaded
    works: Tuple[Work, ...]
    sources: List[Sources]
    sizes: List[int]
    reads: FrozenSet[int]
    inputs: Inputs
    place: Place
    stream: int


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
        self._lock = threading.RLock()  # whoever runs, and whoever prepares
        self._flights: Deque[Flight] = deque()
        self._used = itertools.count(1)
        self._hinted: Optional[Inputs] = None
        with self._memory.current():
            self._device = device or self._this_device()
            self._runtime = self._bindings.trt.Runtime(self._bindings.trt.Logger(self._bindings.trt.Logger.WARNING))
            self._compute = {urgent: self._memory.stream(urgent) for urgent in (False, True)}
            self._inwards, self._outwards = self._memory.stream(False), self._memory.stream(False)

    def _streams(self) -> Tuple[int, ...]:
        return (*self._compute.values(), self._inwards, self._outwards)

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
        inputs: List[Inputs] = []
        places: List[Place] = []
        try:
            for _ in range(IN_FLIGHT_MAX):
                inputs.append(Inputs(self._buffers(takes, built.batches[2]), self._memory.event()))
            for _ in range(PLACES):
                buffers = self._buffers(makes, built.batches[2])
                places.append(Place(buffers, self._memory.event(), self._memory.event()))
            runs = Runs(str(segment), engine, self._bindings, self._memory, self._log, self.counters)
        except Exception:
            self._give_back(inputs, places)
            raise
        return Loaded(segment, runs, inputs, places, entering, leaving, (built.batches[0], built.batches[2]))

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

    def _buffers(self, abouts: Sequence[TensorInfo], batch: int) -> Dict[str, Buffer]:
        """All of them, or none is taken."""
        buffers: Dict[str, Buffer] = {}
        try:
            for about in abouts:
                nbytes = max(nbytes_of(about, batch), 1)
                address = self._memory.take(nbytes)
                try:
                    buffers[about.name] = Buffer(about, address, self._memory.take_pinned(nbytes))
                except Exception:
                    self._memory.give_back(address)
                    raise
        except Exception:
            self._free(buffers)
            raise
        return buffers

    def _free(self, buffers: Dict[str, Buffer]) -> None:
        for buffer in buffers.values():
            self._memory.give_back(buffer.address)
            self._memory.give_back_pinned(buffer.pinned)

    def _give_back(self, inputs: List[Inputs], places: List[Place]) -> None:
        for taken in inputs:
            self._memory.give_back_event(taken.copied)
            self._free(taken.buffers)
        for place in places:
            self._memory.give_back_event(place.computed)
            self._memory.give_back_event(place.copied)
            self._free(place.buffers)
        inputs.clear()
        places.clear()

    def unload(self, handle: Loaded) -> None:
        """Answers that still lie in its buffers are on the host from then on."""
        with self._lock, self._memory.current():
            self._hinted = None
            for place in handle.places:
                place.take_back()
            for stream in self._streams():
                self._memory.wait(stream)
            handle.runs.give_back()
            self._give_back(handle.inputs, handle.places)

    def close(self) -> None:
        """Give back what the back end itself has. Its segments are unloaded before."""
        with self._memory.current():
            for stream in self._streams():
                self._memory.give_back_stream(stream)

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self, handle: Loaded, tensors: Work, urgent: bool = False) -> Resident:
        assert not self._flights, "runs in flight are finished first"
        self.begin(handle, [tensors], urgent)
        return self.finish()[0]

    def begin(self, handle: Loaded, works: Sequence[Work], urgent: bool = False) -> None:
        """Put one run for these works into the GPU's streams. At most IN_FLIGHT_MAX are begun and not finished. Raises
        BadInput or EngineError, and then this one is not in flight."""
        assert len(self._flights) < IN_FLIGHT_MAX, "finish one first"
        with self._lock, self._memory.current():
            sources, sizes = self._read(handle, works)
            place = self._place_for(handle, places_of(sources))
            inputs, have = inputs_for(handle.inputs, works)
            try:
                self._put(handle, sources, sizes, inputs, have, place, self._compute[urgent])
            except Exception:
                for stream in self._streams():  # nothing of it may still touch what another run gets
                    self._memory.wait(stream)
                inputs.works = ()
                raise
            inputs.works, inputs.flying = tuple(works), True
            reads = frozenset(places_of(sources))
            self._flights.append(
                Flight(handle, tuple(works), sources, sizes, reads, inputs, place, self._compute[urgent])
            )

    def _read(self, handle: Loaded, works: Sequence[Work]) -> Tuple[List[Sources], List[int]]:
        """Where the works' tensors are, and each work's size in the batch. Raises BadInput for what does not fit."""
        sources = [where_of(work) for work in works]
        for source in sources:
            check_tensors(source, handle.entering, str(handle.segment))
        sizes = [next(iter(source.values())).shape[0] for source in sources]
        low, high = handle.batches
        if not low <= sum(sizes) <= high:
            raise BadInput(f"{handle.segment}: batch {sum(sizes)}; its engine takes {low} to {high}")
        return sources, sizes

    def _place_for(self, handle: Loaded, read: Sequence[int]) -> Place:
        """Where the outputs go: the first place that nobody has anything in, or the one that was used longest ago."""
        taken = {*read, *(id(f.place) for f in self._flights), *(one for f in self._flights for one in f.reads)}
        free = [place for place in handle.places if id(place) not in taken]
        place = next((one for one in free if not one.lent_to()), None)
        if place is None:
            place = min(free, key=lambda one: one.used)
        self.counters["answers_moved_to_host"] += place.take_back()
        place.used = next(self._used)
        return place

    def _put(
        self, handle: Loaded, sources: List[Sources], sizes: List[int], inputs: Inputs, have: int, place: Place,
        stream: int,
    ) -> None:  # fmt: skip
        memory, batch = self._memory, sum(sizes)
        there = {name: lying_together([source[name] for source in sources]) for name in inputs.buffers}
        self.counters["inputs_on_device"] += sum(map(bool, there.values()))
        self.counters["inputs_prepared"] += have
        wanted = [name for name, address in there.items() if not address]
        if wanted and have < len(sources):
            inputs.fill(wanted, sources, have, memory, self._inwards)
        if wanted:
            memory.hold(stream, inputs.copied)
        for flight in self._flights:  # an engine is in one stream at a time; of one urgency it is the same stream
            if flight.stream != stream:
                memory.hold(stream, flight.place.computed)
        memory.hold(stream, place.copied)  # of an answer that nobody holds any more, though it was on its way
        addresses = {name: address or inputs.buffers[name].address for name, address in there.items()}
        shapes = {name: _shape(inputs.buffers[name].info, batch) for name in addresses}
        addresses.update({name: buffer.address for name, buffer in place.buffers.items()})
        handle.runs.start(shapes, addresses, batch, stream)
        memory.mark(place.computed, stream)

    def finish(self) -> List[Resident]:
        """The answers of the works of the run that was begun first of those in flight."""
        flight = self._flights[0]
        try:
            with self._memory.current():
                self._memory.wait_for(flight.place.computed)
            return self._answers(flight)
        finally:
            with self._lock:
                self._flights.popleft()
                flight.inputs.works, flight.inputs.flying = (), False

    def _answers(self, flight: Flight) -> List[Resident]:
        answers: List[Resident] = []
        first = 0
        for source, size in zip(flight.sources, flight.sizes):
            where: Sources = {}
            for about in flight.handle.leaving:
                made = flight.place.buffers.get(about.name)
                where[about.name] = source[about.name] if made is None else Slice(flight.place, made, first, size)
            answers.append(Resident(self._memory, self._outwards, where))
            first += size
        return answers

    def prepare(self, handle: Loaded, works: Sequence[Work]) -> None:
        """Begin to copy in what these works bring from the host; of the works prepared before, only those count on from
        now on that are these. By any thread."""
        with self._lock, self._memory.current():
            if all(inputs.flying for inputs in handle.inputs):
                return  # no room; or unloaded meanwhile
            sources, _ = self._read(handle, works)
            if places_of(sources):
                return  # they need no copy, or one on the device
            inputs, have = inputs_for(handle.inputs, works)
            if self._hinted is not None and self._hinted is not inputs and not self._hinted.flying:
                self._hinted.works = ()
            self._hinted = inputs
            if have < len(works):
                inputs.works = ()
                inputs.fill(list(inputs.buffers), sources, have, self._memory, self._inwards)
                inputs.works = tuple(works)

    # -- several works ---------------------------------------------------------------------------------------------

    def batch_max(self, handle: Loaded) -> int:
        joins = all(about.shape[:1] == ("batch",) for about in (*handle.entering, *handle.leaving))
        return handle.batches[1] if joins else 1

    def run_together(self, handle: Loaded, works: Sequence[Work], urgent: bool = False) -> List[Outcome]:
        return run_works(self, handle, works, urgent)

    def describe(self) -> Dict[str, str]:
        return {
            "name": "tensorrt", "version": self._bindings.version, "precision": "as built",
            "device": f"{self._device.device_type}, compute capability {self._device.compute_capability}",
            "memory": self._memory.describe(),
        }  # fmt: skip


def _shape(about: TensorInfo, batch: int) -> Tuple[int, ...]:
    return tuple(size if isinstance(size, int) else batch for size in about.shape)
