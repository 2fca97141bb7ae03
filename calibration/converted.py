"""An ONNX segment in a lower precision, by whoever converts: ``engines/half.py``, or onnxruntime's quantiser.

Both work on the graph, so that what is compared is what would be built. INT8 is a quantised graph (QDQ) whose ranges
onnxruntime's entropy calibrator chooses; a board's TensorRT takes the ranges from such a graph.
"""

import contextlib
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.engines.backend import Arrays
from pamdi.engines.half import to_half

EXAMPLES_PER_STEP = 16
Kept = Tuple[str, ...]


def to_fp16(path: Path, out: Path, examples: Arrays) -> Kept:
    """Weights, values and boundaries in FP16, but for what needs FP32: one line per operator kept. ``examples`` are
    not needed. Raises EngineError."""
    import onnx

    half = to_half(onnx.load(str(path)))
    onnx.save(half.model, str(out))
    return half.kept


def to_int8(path: Path, out: Path, examples: Arrays) -> Kept:
    """Weights and values in INT8, ranges by entropy over ``examples``; boundaries stay FP32. Raises EngineError."""
    try:
        from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

        with contextlib.redirect_stdout(sys.stderr):  # it prints as it goes
            quantize_static(
                str(path), str(out), _Reader(examples), calibrate_method=CalibrationMethod.Entropy, per_channel=True,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
            )  # fmt: skip
    except Exception as error:  # the quantiser raises whatever it meets
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(
            f"{path}: cannot be made int8 ({line}): leave --int8 away, or keep this model in fp16"
        ) from error
    return ()


CONVERTERS: Dict[str, Callable[[Path, Path, Arrays], Kept]] = {"fp16": to_fp16, "int8": to_int8}


class _Reader:
    """What onnxruntime's calibrator asks for its inputs: a few at a time, always as many, then None."""

    def __init__(self, examples: Arrays) -> None:
        self._steps = self._split(examples)

    def get_next(self) -> Optional[Dict[str, Any]]:
        return next(self._steps, None)

    @staticmethod
    def _split(examples: Arrays) -> Iterator[Dict[str, "np.ndarray"]]:
        count = len(next(iter(examples.values())))
        step = min(count, EXAMPLES_PER_STEP)
        for begin in range(0, count - step + 1, step):
            yield {name: array[begin : begin + step] for name, array in examples.items()}
