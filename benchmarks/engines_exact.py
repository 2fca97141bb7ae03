"""Chained segments are the uncut model, bit for bit: of the three models, and of models that were not made here.

    python -m benchmarks.engines_exact [--models resnet56,resnet50,gpt2] [--random 10] [--cache DIR] [--json]

For each model every single unit in a chain and ``--random`` random cut sets, graph optimisation off. Then every model
that the onnx package ships with outputs of reference (backend/test/data): its chained units bit for bit against the
uncut model, and against the outputs that lie beside it within 1e-3. resnet50 and gpt2 need the extra ``models``.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from pamdi.core.errors import EngineError, PamdiError
from pamdi.engines.cuts import cut, load_model
from pamdi.engines.exactness import exactness
from pamdi.engines.export import export
from pamdi.engines.named_models import Making, model_path
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
from pamdi.engines.verify import covering_chain, run_chain, run_uncut

RELATIVE, ABSOLUTE = 1e-3, 1e-5  # onnx's own runner takes 1e-3 and 1e-7
Outcome = Tuple[str, str]


def ours(name: str, random_sets: int, making: Making) -> Dict[str, Any]:
    found = exactness(
        model_path(name, making), random_sets, say=lambda line: print(f"  {name}: {line}", file=sys.stderr)
    )
    same = sum(one.difference.identical for one in found)
    return {"model": name, "units": found[0].segments, "cut_sets": len(found), "identical": same}


def reference_cases() -> List[Path]:
    """Models of the onnx package with their inputs and outputs, one folder each; zoo graphs have outputs alone."""
    import onnx

    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    return [*sorted(data.glob("*/*/model.onnx")), *sorted((data / "light").glob("*.onnx"))]


def against_reference(path: Path) -> Outcome:
    """(what came of it, why): exact, exact as one unit (nothing to cut), DIFFERENT, not run, or not cut."""
    try:
        model = cut(load_model(path))
    except EngineError as error:
        return "not cut", str(error)
    case = _case(path, [value.name for value in model.proto.graph.input], model.outputs)
    if case is None:
        return "no reference", ""
    inputs, outputs = case
    try:
        with tempfile.TemporaryDirectory() as out:
            manifest = export(path, Path(out), "m")
            names = {tensor.name for tensor in manifest.boundaries[0]}
            inputs = {name: array for name, array in inputs.items() if name in names}
            backend = OnnxRuntimeBackend(1, "off")
            whole = run_uncut(backend, path, inputs)
            chained = run_chain(backend, Path(out), covering_chain(manifest), inputs)
    except Exception as error:  # an operator that onnxruntime lacks, in the model itself
        return "not run", str(error).splitlines()[0]
    close = all(np.allclose(chained[n], wanted, RELATIVE, ABSOLUTE, equal_nan=True) for n, wanted in outputs.items())
    same = all(chained[name].tobytes() == whole[name].tobytes() for name in whole)
    if not (close and same):
        return "DIFFERENT", f"reference {'met' if close else 'missed'}, uncut model {'met' if same else 'missed'}"
    return ("exact" if len(model.units) > 1 else "exact as one unit"), f"{len(model.units)} units"


def _case(path: Path, inputs: List[str], outputs: Any) -> Optional[Tuple[Dict[str, Any], Dict[str, Any]]]:
    if path.parent.name == "light":  # onnx feeds these a fixed ramp: see its light_model tests
        return _light(path, outputs)
    folder = path.parent / "test_data_set_0"
    if not (folder / "output_0.pb").exists():
        return None
    given = [_array(folder / f"input_{i}.pb") for i in range(len(list(folder.glob("input_*.pb"))))]
    wanted = [_array(folder / f"output_{i}.pb") for i in range(len(list(folder.glob("output_*.pb"))))]
    return dict(zip(inputs, given)), {tensor.name: array for tensor, array in zip(outputs, wanted)}


def _light(path: Path, outputs: Any) -> Optional[Tuple[Dict[str, Any], Dict[str, Any]]]:
    reference = path.with_name(f"{path.stem}_output_0.pb")
    if not reference.exists():
        return None
    tensors = cut(load_model(path)).boundaries[0]
    given = {}
    for tensor in tensors:
        shape = [size if isinstance(size, int) else 1 for size in tensor.shape]
        count = int(np.prod(shape))
        given[tensor.name] = (np.arange(count).reshape(shape) / count).astype(tensor.dtype)
    return given, {outputs[0].name: _array(reference)}


def _array(path: Path) -> Any:
    import onnx

    tensor = onnx.TensorProto.FromString(path.read_bytes())
    return onnx.numpy_helper.to_array(tensor)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet56,resnet50,gpt2")
    parser.add_argument("--random", type=int, default=10, metavar="N")
    parser.add_argument("--cache", type=Path, default=Making().cache)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    making = Making(arguments.cache, say=lambda line: print(f"  {line}", file=sys.stderr))
    try:
        rows = [ours(name, arguments.random, making) for name in filter(None, arguments.models.split(","))]
    except PamdiError as error:
        print(f"engines_exact: {error}", file=sys.stderr)
        return 1
    outcomes = {f"{path.parent.name}/{path.name}": against_reference(path) for path in reference_cases()}
    counts: Dict[str, int] = {}
    for kind, _ in outcomes.values():
        counts[kind] = counts.get(kind, 0) + 1
    holds = all(row["identical"] == row["cut_sets"] for row in rows) and not counts.get("DIFFERENT")
    if arguments.json:
        print(json.dumps({"models": rows, "reference": outcomes, "counts": counts, "holds": holds}))
        return 0 if holds else 1
    for row in rows:
        print(f"  {row['model']}: {row['units']} units; {row['identical']} of {row['cut_sets']} cut sets bit for bit")
    for name, (kind, why) in outcomes.items():
        if kind in ("DIFFERENT", "not run", "not cut"):
            print(f"  {kind}: {name}: {why}")
    print(f"  models of the onnx package: {', '.join(f'{count} {kind}' for kind, count in sorted(counts.items()))}")
    print(f"{'holds ' if holds else 'BROKEN'} chained segments are the uncut model, bit for bit")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
