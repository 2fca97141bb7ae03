"""An ONNX segment in a lower precision: the door to whoever converts, and to onnxruntime's tools."""

import contextlib
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.engines.backend import Arrays

EXAMPLES_PER_STEP = 16
# Sums and exponentials that leave FP16's range or its eleven bits; their neighbours are converted.
KEPT_IN_FP32 = ["LayerNormalization", "Softmax", "LogSoftmax", "ReduceMean", "ReduceSum", "Pow", "Sqrt", "Exp"]


def to_fp16(path: Path, out: Path, examples: Arrays) -> None:
    """Weights, values and boundaries in FP16. ``examples`` are not needed. Raises EngineError."""
    try:
        import onnx
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

        model = onnx.load(str(path))
        blocked = [*DEFAULT_OP_BLOCK_LIST, *KEPT_IN_FP32]
        onnx.save(convert_float_to_float16(model, op_block_list=blocked, keep_io_types=False), str(out))
    except Exception as error:  # the converter raises whatever it meets
        raise _failed(path, "fp16", error) from error


def to_int8(path: Path, out: Path, examples: Arrays) -> None:
    """Weights and values in INT8, ranges by entropy over ``examples``; boundaries stay FP32. Raises EngineError."""
    try:
        from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

        with contextlib.redirect_stdout(sys.stderr):  # it prints as it goes
            quantize_static(
                str(path), str(out), _Reader(examples), calibrate_method=CalibrationMethod.Entropy, per_channel=True,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
            )  # fmt: skip
    except Exception as error:
        raise _failed(path, "int8", error) from error


CONVERTERS: Dict[str, Callable[[Path, Path, Arrays], None]] = {"fp16": to_fp16, "int8": to_int8}


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


def _failed(path: Path, precision: str, error: Exception) -> EngineError:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return EngineError(
        f"{path}: cannot be made {precision} ({line}): install pamdi[tools], or keep this segment in fp32"
    )
