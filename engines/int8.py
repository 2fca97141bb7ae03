"""INT8 in the graph: a float32 ONNX file with QuantizeLinear and DequantizeLinear around what INT8 computes.

Where the ranges come from decides what INT8 loses, so nothing here happens unless somebody gives inputs. The ranges are
chosen by entropy (S. Migacz, *8-bit inference with TensorRT*, GTC 2017) with onnxruntime's calibrator, not TensorRT's
own: that one (IInt8EntropyCalibrator2) needs the GPU while it calibrates, cannot be used with strongly typed networks,
and is gone in TensorRT 11, while a graph of this kind is read by 8.5 to 11.4 alike.

What TensorRT asks of such a graph is kept to: ranges are symmetric (zero points are 0), weights have one scale per
channel, biases stay float32. Convolutions and matrix products are quantised; the rest stays float32, boundaries too.
"""

import contextlib
import io
import logging
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

import numpy as np

from pamdi.core.errors import BadInput, EngineError
from pamdi.engines.backend import Arrays, check_tensors
from pamdi.engines.manifest import Manifest

EXAMPLES_PER_STEP = 16
OPERATORS = ("Conv", "Gemm", "MatMul")
AS_TENSORRT_WANTS = {
    "ActivationSymmetric": True, "WeightSymmetric": True, "CalibTensorRangeSymmetric": True, "QuantizeBias": False,
}  # fmt: skip


def to_int8(path: Path, out: Path, examples: Arrays) -> Tuple[str, ...]:
    """Write the quantised form of the float32 file at ``path`` to ``out``, ranges by entropy over ``examples`` (by
    name, batch first). Returns the names of the operators in INT8. Raises EngineError."""
    try:
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

        plain = onnx.load(str(path))
        if not any(node.op_type in OPERATORS for node in plain.graph.node):  # nothing to calibrate, which it takes ill
            onnx.save(plain, str(out))
            return ()
        with _quiet():
            quantize_static(
                str(path), str(out), _Reader(examples), calibrate_method=CalibrationMethod.Entropy, per_channel=True,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, op_types_to_quantize=list(OPERATORS),
                extra_options=AS_TENSORRT_WANTS,
            )  # fmt: skip
        return _quantised(onnx.load(str(out)))
    except Exception as error:  # the quantiser raises whatever it meets
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(f"{path}: cannot be made int8 ({line}): keep this model in fp16") from error


def _quantised(model: Any) -> Tuple[str, ...]:
    """Operators that read what a DequantizeLinear made."""
    made = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return tuple(
        f"{node.name or node.output[0]} ({node.op_type})"
        for node in model.graph.node
        if node.op_type in OPERATORS and made & set(node.input)
    )


def read_examples(path: Path, manifest: Manifest) -> Arrays:
    """Inputs by name from an .npz file, at least two: one half calibrates, the other judges. Raises EngineError."""
    try:
        with np.load(path) as loaded:
            examples = {name: loaded[name] for name in loaded.files}
        check_tensors(examples, manifest.boundaries[0], manifest.model)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EngineError(f"{path}: not an .npz file of inputs by name: save it with numpy.savez") from error
    except BadInput as error:
        raise EngineError(f"{path}: {error.detail}: give inputs of this model") from error
    if len(next(iter(examples.values()))) < 2:
        raise EngineError(f"{path}: int8 needs at least two inputs: one half calibrates, the other judges")
    return examples


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """It prints as it goes, and advises on standard error."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


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
