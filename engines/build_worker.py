"""The process that builds: jobs come in as lines of JSON, events go out as lines of JSON.

    python -m pamdi.engines.build_worker BACKEND FOLDER

Building is what the kernel kills for memory, so it never happens in the process that keeps the manifest. One worker
serves all segments of a build (importing TensorRT costs as much as a small engine) and dies with its parent. It writes
a plan where it is told to and never touches anything else of the folder.
"""

import ctypes
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from pamdi.core.errors import EngineError, PamdiError
from pamdi.engines.backend import Arrays
from pamdi.engines.manifest import Manifest, SegmentInfo, checked_segment, read_manifest
from pamdi.engines.tensorrt_builder import Bindings, Built, Settings, build_plan, open_bindings

PR_SET_PDEATHSIG = 1
PROBE_BATCH = 2


def _die_with_parent() -> None:
    """A parent killed by -9 takes its worker with it. Linux; elsewhere the worker ends at its next line."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):
        return


def _tell(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


class _Chain:
    """The float32 chain's tensors by boundary, made from the front as far as they are asked for."""

    def __init__(self, folder: Path, manifest: Manifest, inputs: Optional[Arrays] = None) -> None:
        """``inputs``: random ones without."""
        from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
        from pamdi.engines.verify import random_inputs

        self._folder, self._manifest = folder, manifest
        self.backend = OnnxRuntimeBackend(1, "all")
        self._known: Dict[int, Arrays] = {0: inputs or random_inputs(manifest, PROBE_BATCH)}

    def entering(self, boundary: int) -> Optional[Arrays]:
        """The tensors there, or None where no run of segments leads there."""
        from pamdi.core.segment import Segment

        if boundary not in self._known:
            before = [info for info in self._manifest.segments if info.stop == boundary]
            info = max(before, key=lambda info: info.first, default=None)
            inputs = self.entering(info.first) if info else None
            if info is None or inputs is None:
                return None
            handle = self.backend.load(self._folder, Segment(self._manifest.model, info.first, info.stop))
            self._known = {boundary: self.backend.run(handle, inputs), 0: self._known[0]}
        return self._known[boundary]


class Worker:
    """Builds segments of one folder with one back end."""

    def __init__(self, bindings: Bindings, folder: Path) -> None:
        from pamdi.engines.half_store import read_about

        self._bindings, self._folder = bindings, folder
        self._manifest = read_manifest(folder)
        about = read_about(folder, self._manifest)
        self._halved = {(half.first, half.stop): half for half in about.segments} if about else None
        self._chain: Optional[_Chain] = None

    def build(
        self,
        first: int,
        stop: int,
        precision: str,
        out: Path,
        settings: Settings,
        inputs: str = "",
        ranges: str = "entropy",
    ) -> Dict[str, Any]:
        """Build units ``first`` to ``stop - 1`` into ``out``. Returns what the manifest should say of it."""
        info = self._manifest.segment(first, stop)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".building-") as staging:
            if precision == "int8":
                graph, kept, error = self._quantise(info, Path(inputs), ranges, Path(staging))
            else:
                graph, kept, error = self._graph(info, precision, Path(staging))
            built = build_plan(self._bindings, graph, settings, self._go_on)
        self._write(out, built)
        said = "onnxruntime on the CPU" + (", on inputs that did not calibrate it" if precision == "int8" else "")
        return {
            "kept": kept, "max_abs_error": error, "error_from": "" if error is None else said,
            "layers": built.layers, "layer_types": built.layer_types,
        }  # fmt: skip

    def _graph(self, info: SegmentInfo, precision: str, staging: Path) -> Tuple[Path, Tuple[str, ...], Optional[float]]:
        """The ONNX file to build from, the operators kept in FP32, and how far it is from the float32 segment."""
        path = checked_segment(self._folder, self._manifest, info)
        if self._halved is not None:
            half = self._halved[info.first, info.stop]
            return path, half.kept, half.max_abs_error
        if precision == "fp32":
            return path, (), 0.0
        return self._halve(info, staging)

    def _halve(self, info: SegmentInfo, staging: Path) -> Tuple[Path, Tuple[str, ...], Optional[float]]:
        import onnx

        from pamdi.engines.half import to_half
        from pamdi.engines.half_range import check_range
        from pamdi.engines.half_store import load_segment, measure

        ends = frozenset(tensor.name for u in (info.first, info.stop) for tensor in self._manifest.boundaries[u])
        half = to_half(load_segment(self._folder, self._manifest, info), ends)
        path = staging / info.onnx
        onnx.save(half.model, str(path))
        self._chain = self._chain or _Chain(self._folder, self._manifest)
        inputs = self._chain.entering(info.first)
        if inputs is None:
            return path, half.kept, None
        full = load_segment(self._folder, self._manifest, info)
        check_range(self._chain.backend, full, half.model, inputs, f"{info.first}:{info.stop}")
        measured, _ = measure(self._chain.backend, self._folder, self._manifest, info, path, inputs)
        return path, half.kept, measured.max_abs_error

    def _quantise(
        self, info: SegmentInfo, inputs: Path, ranges: str, staging: Path
    ) -> Tuple[Path, Tuple[str, ...], Optional[float]]:
        """In INT8, by what enters the segment when every second of the inputs is run; the others judge."""
        from pamdi.engines.half_store import measure
        from pamdi.engines.int8 import read_examples, to_int8

        source = checked_segment(self._folder, self._manifest, info)
        self._chain = self._chain or _Chain(self._folder, self._manifest, read_examples(inputs, self._manifest))
        entering = self._chain.entering(info.first)
        if entering is None:
            raise EngineError(f"segment {info.first}:{info.stop}: no segments lead there, so it cannot be calibrated")
        path = staging / info.onnx
        to_int8(source, path, {name: array[0::2] for name, array in entering.items()}, ranges)
        judging = {name: array[1::2] for name, array in entering.items()}
        measured, _ = measure(self._chain.backend, self._folder, self._manifest, info, path, judging)
        return path, ("all but convolutions and matrix products",), measured.max_abs_error

    def _go_on(self, phase: str) -> bool:
        _tell(phase=phase)
        return True

    def _write(self, out: Path, built: Built) -> None:
        with open(out, "wb") as file:
            file.write(built.plan)
            file.flush()
            os.fsync(file.fileno())


def main() -> int:
    _die_with_parent()
    backend, folder = sys.argv[1], Path(sys.argv[2])
    try:
        bindings = open_bindings(backend)
        worker = Worker(bindings, folder)
    except PamdiError as error:
        _tell(error=str(error))
        return 1
    _tell(version=bindings.version, row=bindings.row.name)
    for line in sys.stdin:
        job = json.loads(line)
        cache = Path(job["timing_cache"]) if job["timing_cache"] else None
        precision = job["precision"]
        settings = Settings(
            tuple(job["batches"]),
            job["workspace_bytes"],
            precision == "fp16",
            job["target"],
            cache,
            precision == "int8",
        )
        try:
            out = Path(job["out"])
            done = worker.build(job["first"], job["stop"], precision, out, settings, job["inputs"], job["ranges"])
        except (PamdiError, MemoryError, OSError) as error:
            _tell(error=str(error) or type(error).__name__)
        else:
            _tell(done=done)
    return 0


if __name__ == "__main__":
    sys.exit(main())
