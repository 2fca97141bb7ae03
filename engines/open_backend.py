"""The one door to back ends: by name, with the vendor's library imported only when it is asked for."""

from typing import Callable

from pamdi.core.errors import EngineError
from pamdi.engines.backend import Backend
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
from pamdi.engines.stub_backend import StubBackend

NAMES = ("onnxruntime", "stub", "tensorrt")


def open_backend(
    name: str, threads: int = 1, optimisation: str = "all", stub_s: float = 0.0, device: str = "auto",
    log: Callable[[str], None] = lambda line: None,
) -> Backend:  # fmt: skip
    """``log`` is told what a back end does without. Raises EngineError for one that is unknown or not here."""
    if name == "onnxruntime":
        return OnnxRuntimeBackend(threads, optimisation, device)
    if name == "stub":
        return StubBackend(stub_s)
    if name == "tensorrt":
        from pamdi.engines.tensorrt_backend import TensorRTBackend

        return TensorRTBackend(log=log)
    raise EngineError(f"backend {name!r} is unknown: one of {', '.join(NAMES)}")
