"""Values inside a segment that FP16, which ends at 65504, does not hold.

onnxruntime on a CPU computes most operators in FP32 and drops the casts between neighbours, so what is too large on the
way reaches the outputs unharmed, where a GPU's would be infinite. So every tensor of both graphs is made an output, and
looked at.
"""

import tempfile
from pathlib import Path
from typing import Any, Dict

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.engines.backend import Arrays
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend


def check_range(backend: OnnxRuntimeBackend, full: Any, half: Any, inputs: Arrays, segment: str) -> None:
    """``full``, ``half``: the ONNX graphs of ``segment`` in float32 and FP16; ``inputs``: what enters, in float32.
    Raises EngineError where a tensor of the same name is finite in float32 alone."""
    wide, narrow = _everything(backend, full, inputs), _everything(backend, half, inputs)
    for name, array in narrow.items():
        lost = array.dtype == np.float16 and name in wide and not np.isfinite(array).all()
        if lost and np.isfinite(wide[name][~np.isfinite(array)]).any():
            raise EngineError(
                f"segment {segment}: {name} reaches {np.abs(wide[name]).max():.3g}, FP16 ends at 65504: build with "
                "--precision fp32, or scale the model's values down"
            )


def _everything(backend: OnnxRuntimeBackend, model: Any, inputs: Arrays) -> Dict[str, "np.ndarray"]:
    """Every tensor that the graph's nodes make."""
    import onnx

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {value.name for value in shown.graph.output}
    made = [name for node in shown.graph.node for name in node.output if name and name not in known]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    with tempfile.TemporaryDirectory(prefix="pamdi-range-") as folder:
        path = Path(folder) / "shown.onnx"
        onnx.save(shown, str(path))
        session = backend.session(path)
    kinds = {value.name: value.type for value in session.get_inputs()}
    feed = {n: inputs[n].astype(np.float16) if kind == "tensor(float16)" else inputs[n] for n, kind in kinds.items()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feed)))
