"""An ONNX segment in a lower precision, by whoever converts: ``engines/half.py`` or ``engines/int8.py``.

Both work on the graph, so that what is compared is what `pamdi engines build` would build.
"""

from pathlib import Path
from typing import Callable, Dict, Tuple

from pamdi.engines import int8
from pamdi.engines.backend import Arrays
from pamdi.engines.half import to_half

Kept = Tuple[str, ...]


def to_fp16(path: Path, out: Path, examples: Arrays) -> Kept:
    """Weights, values and boundaries in FP16, but for what needs FP32: one line per operator kept. ``examples`` are
    not needed. Raises EngineError."""
    import onnx

    half = to_half(onnx.load(str(path)))
    onnx.save(half.model, str(out))
    return half.kept


def to_int8(path: Path, out: Path, examples: Arrays) -> Kept:
    """Convolutions and matrix products in INT8, ranges by entropy over ``examples``. Raises EngineError."""
    int8.to_int8(path, out, examples)
    return ("all but convolutions and matrix products",)


CONVERTERS: Dict[str, Callable[[Path, Path, Arrays], Kept]] = {"fp16": to_fp16, "int8": to_int8}
