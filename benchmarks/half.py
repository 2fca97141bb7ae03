"""FP16 against FP32 over whole chains, with onnxruntime on the CPU.

    python -m benchmarks.half [resnet56] [gpt2] [--gpt2 FILE.onnx]

ResNet-56 in all its units on all 1,797 digits: how many change their answer. GPT-2 in all its units on 100 random
prompts: the share of next tokens that stay, and the largest difference of a logit. Both chains run the same batches.

onnxruntime computes most operators in FP32 on a CPU and rounds to FP16 between them: what is seen here is the rounding
of weights, of activations and of everything that crosses a boundary, not a GPU's FP16 accumulation.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import List, Tuple

import numpy as np

from pamdi.core.segment import Segment
from pamdi.engines.backend import Arrays
from pamdi.engines.digits import load
from pamdi.engines.export import OURS, export, model_path
from pamdi.engines.half_store import halve_folder, read_about
from pamdi.engines.manifest import read_manifest
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
from pamdi.engines.verify import covering_chain

CHANGED_MAX = 3
PROMPTS = 100
VOCABULARY = 50257
BATCH = 20


def both(model: Path, folder: Path) -> Tuple[Path, Path]:
    """The folder of all units in FP32, and the one in FP16."""
    export(model, folder / "full", "full")
    halve_folder(folder / "full", folder / "half", "half")
    about = read_about(folder / "half", read_manifest(folder / "half"))
    assert about is not None
    kept = [line for segment in about.segments for line in segment.kept]
    errors = [segment.max_abs_error / max(segment.largest or 1, 1e-12) for segment in about.segments
              if segment.max_abs_error is not None]  # fmt: skip
    print(f"  {len(about.segments)} segments, {len(kept)} operators kept in FP32; largest error of a segment "
          f"{max(errors):.2e} of its largest output")  # fmt: skip
    return folder / "full", folder / "half"


def answers(folder: Path, batches: List["np.ndarray"]) -> "np.ndarray":
    """The chain's one output for all batches, each segment loaded once."""
    manifest, backend = read_manifest(folder), OnnxRuntimeBackend(1, "all")
    (entering,) = manifest.boundaries[0]
    tensors: List[Arrays] = [{entering.name: batch} for batch in batches]
    for first, stop in covering_chain(manifest):
        handle = backend.load(folder, Segment(manifest.model, first, stop))
        tensors = [backend.run(handle, one) for one in tensors]
    (leaving,) = manifest.boundaries[-1]
    return np.concatenate([one[leaving.name] for one in tensors])


def digits(folder: Path) -> bool:
    images, labels = load("all")
    print(f"resnet56, {len(images)} digits:")
    folders = both(OURS["resnet56"], folder)
    full, half = (answers(one, np.array_split(images, len(images) // 60)) for one in folders)
    changed = int((full.argmax(1) != half.argmax(1)).sum())
    right = [float((logits.argmax(1) == labels).mean()) for logits in (full, half)]
    print(f"  {changed} of {len(images)} answers change (at most {CHANGED_MAX} may); accuracy {right[0]:.4f} in FP32, "
          f"{right[1]:.4f} in FP16; largest logit difference {np.abs(full - half).max():.4f} of "
          f"{np.abs(full).max():.2f}")  # fmt: skip
    return changed <= CHANGED_MAX


def tokens(path: Path, folder: Path) -> None:
    print(f"gpt2, {PROMPTS} random prompts:")
    folders = both(path, folder)
    (entering,) = read_manifest(folders[0]).boundaries[0]
    prompts = np.random.default_rng(2).integers(0, VOCABULARY, (PROMPTS, int(entering.shape[1])))
    full, half = (answers(one, np.array_split(prompts.astype(np.int64), PROMPTS // BATCH)) for one in folders)
    same = float((full.argmax(-1) == half.argmax(-1)).mean())
    print(f"  next token unchanged in {same:.0%}; largest logit difference {np.abs(full - half).max():.4f} of "
          f"{np.abs(full).max():.2f}")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["resnet56"], help="resnet56 (default), gpt2")
    parser.add_argument("--gpt2", type=Path, help="GPT-2's ONNX file (default: made by torch, random weights)")
    arguments = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        if "resnet56" in arguments.models:
            good = digits(Path(folder) / "resnet56")
        if "gpt2" in arguments.models:
            tokens(arguments.gpt2 or model_path("gpt2"), Path(folder) / "gpt2")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
