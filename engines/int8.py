"""INT8 in the graph: a float32 ONNX file with QuantizeLinear and DequantizeLinear around what INT8 computes.

Where the ranges come from decides what INT8 loses, so nothing here happens unless somebody gives inputs. The ranges are
chosen by entropy (see ``entropy``), or reach to the largest value, which costs less where there are no freaks: the
error on inputs that did not calibrate stands in the manifest either way. All this is before TensorRT sees the graph.
TensorRT's own calibrator of that kind,
IInt8EntropyCalibrator2, is not used: it needs the GPU while it calibrates, cannot be used with strongly typed networks,
is deprecated from 10.1 on and gone in 11, while a graph of this kind is read by 8.5 to 11.4 alike, and its ranges are
the same on every board.

What TensorRT asks of such a graph is kept to: ranges are symmetric (zero points are 0), weights have one scale per
channel, biases stay float32. Convolutions and matrix products are quantised; the rest stays float32, boundaries too.
"""

import contextlib
import io
import logging
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from pamdi.core.errors import BadInput, EngineError
from pamdi.engines.backend import Arrays, check_tensors
from pamdi.engines.entropy import Histograms, steps_of
from pamdi.engines.manifest import Manifest

EXAMPLES_PER_STEP = 8  # whose activations are all in memory at once
RANGES = ("entropy", "largest")
OPERATORS = ("Conv", "Gemm", "MatMul")
AS_TENSORRT_WANTS = {
    "ActivationSymmetric": True, "WeightSymmetric": True, "CalibTensorRangeSymmetric": True, "QuantizeBias": False,
}  # fmt: skip


def to_int8(path: Path, out: Path, examples: Arrays, ranges: str = "entropy") -> Tuple[str, ...]:
    """Write the quantised form of the float32 file at ``path`` to ``out``, ranges chosen over ``examples`` (by name,
    batch first): by ``entropy``, or up to the ``largest`` value. Returns the names of the operators in INT8. Raises
    EngineError."""
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_static

        tops = _ranges(path, examples, ranges)
        chosen = {name: [{"rmin": np.float32(-top), "rmax": np.float32(top)}] for name, top in tops}
        with _quiet():
            quantize_static(
                str(path), str(out), _Reader(examples), per_channel=True, activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8, op_types_to_quantize=list(OPERATORS),
                extra_options={**AS_TENSORRT_WANTS, "TensorQuantOverrides": chosen},
            )  # fmt: skip
        return _quantised(onnx.load(str(out)))
    except Exception as error:  # the quantiser raises whatever it meets
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(f"{path}: cannot be made int8 ({line}): keep this model in fp16") from error


def _ranges(path: Path, examples: Arrays, ranges: str) -> List[Tuple[str, float]]:
    """Of every tensor that a quantised operator takes or makes, weights and biases apart."""
    import onnx
    import onnxruntime

    model = onnx.load(str(path))
    known = {one.name for one in (*model.graph.initializer, *model.graph.input)}
    nodes = [node for node in model.graph.node if node.op_type in OPERATORS]
    names = sorted({name for node in nodes for name in (*node.input, *node.output) if name} - known)
    entering = sorted({name for node in nodes for name in node.input} & set(examples))
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = Histograms()
    for look in (found.widen, found.count):
        for begin, end in steps_of(len(next(iter(examples.values()))), EXAMPLES_PER_STEP):
            few = {name: array[begin:end] for name, array in examples.items()}
            values = dict(zip(names, session.run(names, {one.name: few[one.name] for one in session.get_inputs()})))
            values.update({name: few[name] for name in entering})
            look({name: array for name, array in values.items() if array.dtype == np.float32})
    return sorted((found.ranges() if ranges == "entropy" else found.largest()).items())


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
    """The quantiser asks for inputs although we have the ranges: a few of them will do."""

    def __init__(self, examples: Arrays) -> None:
        steps = steps_of(len(next(iter(examples.values()))), EXAMPLES_PER_STEP)
        self._steps = iter([{name: array[begin:end] for name, array in examples.items()} for begin, end in steps[:1]])

    def get_next(self) -> Optional[Dict[str, Any]]:
        return next(self._steps, None)
