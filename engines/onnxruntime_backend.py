"""onnxruntime: the back end of machines without TensorRT, and of the demo. On CUDA where that is present.

Threads are few and do not spin, so that several daemons can share a machine; with graph optimisation off, chained
segments give the uncut model's outputs bit for bit.
"""

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.core.segment import Segment
from pamdi.engines.backend import Arrays, Outcome, check_tensors, one_by_one
from pamdi.engines.manifest import TensorInfo, checked_segment, read_manifest

OPTIMISATION = ("off", "all")
DEVICES = ("auto", "cpu", "cuda")
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Session(NamedTuple):
    """A loaded segment: onnxruntime's session, and what enters and leaves. ``takes`` and ``makes``: those of them
    that its graph knows; the others go around it."""

    session: Any
    segment: Segment
    inputs: Tuple[TensorInfo, ...]
    outputs: Tuple[str, ...]
    takes: Tuple[str, ...]
    makes: Tuple[str, ...]


class OnnxRuntimeBackend:
    """``device``: cpu, cuda, or auto, which is cuda where onnxruntime offers it. What CUDA lacks runs on the CPU."""

    def __init__(self, threads: int = 1, optimisation: str = "all", device: str = "auto") -> None:
        if optimisation not in OPTIMISATION or threads < 1:
            raise EngineError(f"onnxruntime: optimisation is one of {', '.join(OPTIMISATION)}, threads at least 1")
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError("onnxruntime is not installed: pip install 'pamdi[onnxruntime]'") from error
        self._onnxruntime = onnxruntime
        self._threads, self._optimisation = threads, optimisation
        self._providers = _providers(device, onnxruntime.get_available_providers())

    @property
    def counters(self) -> Mapping[str, int]:
        return {}

    def load(self, folder: Path, segment: Segment) -> Session:
        manifest = read_manifest(folder)
        info = manifest.segment(segment.first, segment.stop)
        session = self.session(checked_segment(folder, manifest, info))
        takes = tuple(value.name for value in session.get_inputs())
        makes = tuple(value.name for value in session.get_outputs())
        return Session(session, segment, manifest.boundaries[segment.first], info.outputs, takes, makes)

    def session(self, path: Path) -> Any:
        """An onnxruntime session for the file at ``path``. Raises EngineError."""
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        level = self._onnxruntime.GraphOptimizationLevel
        off = self._optimisation == "off"
        options.graph_optimization_level = level.ORT_DISABLE_ALL if off else level.ORT_ENABLE_ALL
        options.log_severity_level = 3
        try:
            return self._onnxruntime.InferenceSession(str(path), options, providers=self._providers)
        except Exception as error:  # its own types share no base class
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EngineError(f"{path}: onnxruntime cannot load it ({line}): export the model again") from error

    def run(self, handle: Session, tensors: Mapping[str, "np.ndarray"], urgent: bool = False) -> Arrays:
        check_tensors(tensors, handle.inputs, str(handle.segment))
        made = handle.session.run(list(handle.makes), {name: tensors[name] for name in handle.takes})
        known = {**tensors, **dict(zip(handle.makes, made))}
        return {name: known[name] for name in handle.outputs}

    def batch_max(self, handle: Session) -> int:
        return 1

    def run_together(
        self, handle: Session, works: Sequence[Mapping[str, "np.ndarray"]], urgent: bool = False
    ) -> List[Outcome]:
        return one_by_one(self, handle, works, urgent)

    def unload(self, handle: Session) -> None:
        """The session goes with its last reference, which is the caller's."""

    def describe(self) -> Dict[str, str]:
        return {
            "name": "onnxruntime",
            "version": str(self._onnxruntime.__version__),
            "precision": "as exported",
            "device": "cuda" if CUDA in self._providers else "cpu",
            "optimisation": self._optimisation,
        }


def _providers(device: str, offered: Sequence[str]) -> List[str]:
    if device not in DEVICES:
        raise EngineError(f"onnxruntime: device {device!r} is unknown: one of {', '.join(DEVICES)}")
    if device == "cuda" and CUDA not in offered:
        raise EngineError(
            "onnxruntime: this build has no CUDA: install onnxruntime-gpu (on a Jetson NVIDIA's own wheel), or set "
            '[backend] device = "auto"'
        )
    return [CUDA, CPU] if device != "cpu" and CUDA in offered else [CPU]
