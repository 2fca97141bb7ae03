"""Back end ``tensorrt``: engines that ``pamdi engines build`` made on a board of this type.

An engine is loaded only when it fits this device (see ``fitting``) and its file is what the manifest says. Its buffers
are taken once, for the largest batch of its profile: device memory and pinned host memory per tensor; a run copies in,
executes and copies out on one stream, urgent works on a stream that the GPU serves first. Segments that follow each
other on this board hand over on the device: the next engine reads where the last one wrote. Unloading gives back all.

What is not here yet, because nothing here could run it: CUDA graphs for fixed shapes, and copies of one work that
overlap with the computing of another. The core runs one work at a time; ``run_together`` is what it would call to run
several of one segment and class as one batch.
"""

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from pamdi.core.errors import BadInput, EngineError
from pamdi.core.segment import Segment
from pamdi.engines.backend import Arrays, check_tensors
from pamdi.engines.device_memory import DeviceMemory, Pinned, open_device_memory
from pamdi.engines.fitting import Device, fits
from pamdi.engines.here import this_machine
from pamdi.engines.manifest import EngineInfo, Manifest, TensorInfo, checked_file, read_manifest
from pamdi.engines.tensorrt_builder import Bindings, open_bindings
from pamdi.engines.tensorrt_versions import cannot


class Buffer(NamedTuple):
    """One tensor's place on the device and its double on the host, both for the largest batch."""

    info: TensorInfo
    address: int
    pinned: Pinned


class Loaded(NamedTuple):
    """``inputs``, ``outputs``: by name. ``batches``: smallest and largest."""

    segment: Segment
    engine: Any
    context: Any
    inputs: Dict[str, Buffer]
    outputs: Dict[str, Buffer]
    batches: Tuple[int, int]


class TensorRTBackend:
    """Owned by one thread. The arguments stand for the real things in tests."""

    def __init__(
        self,
        bindings: Optional[Bindings] = None,
        memory: Optional[DeviceMemory] = None,
        device: Optional[Device] = None,
    ) -> None:
        self._bindings = bindings or open_bindings("tensorrt")
        for reason in cannot(self._bindings.row, ()):
            raise EngineError(reason)
        self._memory = memory or open_device_memory()
        self._device = device or self._this_device()
        self._runtime = self._bindings.trt.Runtime(self._bindings.trt.Logger(self._bindings.trt.Logger.WARNING))
        self._streams = {urgent: self._memory.stream(urgent) for urgent in (False, True)}

    def _this_device(self) -> Device:
        here, capability = this_machine(), self._memory.compute_capability()
        return Device(here.device_type or f"x86-{capability}", capability, self._bindings.version, here.cuda, here.l4t)

    def load(self, folder: Path, segment: Segment) -> Loaded:
        manifest = read_manifest(folder)
        info = manifest.segment(segment.first, segment.stop)
        built = self._fitting(folder, manifest, segment, info.sha256)
        plan = checked_file(folder, built.file, built.sha256).read_bytes()
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(
                f"{folder / built.file}: TensorRT {self._bindings.version} cannot load it: build it again"
            )
        taken: List[Buffer] = []
        try:
            largest = built.batches[2]
            inputs = {about.name: self._buffer(about, largest, taken) for about in self._crossing(engine, built, True)}
            outputs = {
                about.name: self._buffer(about, largest, taken) for about in self._crossing(engine, built, False)
            }
            context = engine.create_execution_context()
            if context is None:
                raise EngineError(f"{segment}: no memory for an execution context: free device memory")
        except Exception:
            self._give_back(taken)
            raise
        return Loaded(segment, engine, context, inputs, outputs, (built.batches[0], largest))

    def _fitting(self, folder: Path, manifest: Manifest, segment: Segment, sha256: str) -> EngineInfo:
        """The segment's engine for this device. Raises EngineError with why each of those there are does not fit."""
        reason = ""
        for built in manifest.engines:
            if (built.first, built.stop, built.backend) == (segment.first, segment.stop, "tensorrt"):
                reason = fits(built, self._device, sha256, str(folder))
                if not reason:
                    return built
        command = f"pamdi engines build {folder} --device {self._device.device_type}"
        raise EngineError(reason or f"{segment}: no TensorRT engine in {folder}: on this device run `{command}`")

    def _crossing(self, engine: Any, built: EngineInfo, entering: bool) -> List[TensorInfo]:
        """The tensors that the engine takes or makes. Raises EngineError where it is not what the manifest says."""
        mode = self._bindings.trt.TensorIOMode
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        names = [name for name in names if (engine.get_tensor_mode(name) == mode.INPUT) == entering]
        known = {about.name: about for about in (built.inputs if entering else built.outputs)}
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

    def run(self, handle: Loaded, tensors: Mapping[str, "np.ndarray"], urgent: bool = False) -> Arrays:
        return self.run_chain([handle], tensors, urgent)

    def run_chain(self, handles: Sequence[Loaded], tensors: Mapping[str, "np.ndarray"], urgent: bool = False) -> Arrays:
        """Run segments that follow each other; what passes between them never leaves the device."""
        first, last, stream = handles[0], handles[-1], self._streams[urgent]
        expected = tuple(buffer.info for buffer in first.inputs.values())
        check_tensors(tensors, expected, str(first.segment))
        batch = next(iter(tensors.values())).shape[0]
        for handle in handles:
            if not handle.batches[0] <= batch <= handle.batches[1]:
                raise BadInput(
                    f"{handle.segment}: batch {batch}; its engine takes {handle.batches[0]} to {handle.batches[1]}"
                )
        for name, buffer in first.inputs.items():
            data = np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8)
            buffer.pinned.array[: data.size] = data
            self._memory.to_device(buffer.address, buffer.pinned, data.size, stream)
        addresses = {name: buffer.address for name, buffer in first.inputs.items()}
        for handle in handles:
            addresses = self._execute(handle, addresses, batch, stream)
        return self._fetch(last, batch, stream)

    def _execute(self, handle: Loaded, entering: Dict[str, int], batch: int, stream: int) -> Dict[str, int]:
        """Start the engine on what lies at ``entering``. Returns where its outputs will lie."""
        context = handle.context
        leaving = {name: buffer.address for name, buffer in handle.outputs.items()}
        if not set(handle.inputs) <= set(entering):
            raise BadInput(
                f"{handle.segment}: does not follow: it takes {sorted(handle.inputs)}, given {sorted(entering)}"
            )
        good = all(context.set_input_shape(name, _shape(buffer.info, batch)) for name, buffer in handle.inputs.items())
        for name, address in [*((name, entering[name]) for name in handle.inputs), *leaving.items()]:
            good = context.set_tensor_address(name, address) and good
        if not good or not context.execute_async_v3(stream):
            raise EngineError(f"{handle.segment}: TensorRT refuses to run it: build it again with --batches")
        return leaving

    def _fetch(self, handle: Loaded, batch: int, stream: int) -> Arrays:
        sizes = {name: _nbytes(buffer.info, batch) for name, buffer in handle.outputs.items()}
        for name, buffer in handle.outputs.items():
            self._memory.to_host(buffer.pinned, buffer.address, sizes[name], stream)
        self._memory.wait(stream)
        return {
            name: buffer.pinned.array[: sizes[name]].copy().view(buffer.info.dtype).reshape(_shape(buffer.info, batch))
            for name, buffer in handle.outputs.items()
        }

    def run_together(
        self, handle: Loaded, works: Sequence[Mapping[str, "np.ndarray"]], urgent: bool = False
    ) -> List[Arrays]:
        """Several works of one segment as one batch, each with its own outputs back, in order. Together they may be at
        most the engine's largest batch."""
        counts = [next(iter(work.values())).shape[0] for work in works]
        joined = {name: np.concatenate([work[name] for work in works]) for name in works[0]}
        outputs = self.run(handle, joined, urgent)
        ends = np.cumsum(counts)[:-1]
        parts = {name: np.split(array, ends) for name, array in outputs.items()}
        return [{name: parts[name][i] for name in outputs} for i in range(len(works))]

    def unload(self, handle: Loaded) -> None:
        self._give_back([*handle.inputs.values(), *handle.outputs.values()])
        handle.inputs.clear()
        handle.outputs.clear()

    def _give_back(self, buffers: Sequence[Buffer]) -> None:
        for stream in self._streams.values():
            self._memory.wait(stream)
        for buffer in buffers:
            self._memory.give_back(buffer.address)
            self._memory.give_back_pinned(buffer.pinned)

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
