"""The peak memory of cutting and segmenting a large model from its ONNX file, as a multiple of the file.

    python -m benchmarks.engines_memory [--model gpt2] [--cache DIR] [--json]

Each measurement is a child process of its own that does nothing else; its peak is the kernel's (ru_maxrss). Torch's
own export is apart: the ONNX file is made before. ``--model`` may be a path; gpt2 needs the extra ``models``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

from pamdi.core.errors import PamdiError
from pamdi.engines.named_models import Making, model_path
from pamdi.engines.onnx_file import read_onnx

TIMES_MAX = 3.0
SEGMENTS = {"every unit": [], "every contiguous run": ["--segments", "all", "--units", "13"]}


def peak_bytes(command: List[str]) -> int:
    """Of one child process and nothing else: a process in between asks the kernel for its only child's peak."""
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=2, stderr=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"
    )
    told = subprocess.run([sys.executable, "-c", script, *command], check=True, capture_output=True, text=True)
    return int(told.stdout)


def file_bytes(path: Path) -> int:
    files = {path, *(piece.file for piece in read_onnx(path).weights.values())}
    return sum(file.stat().st_size for file in files)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gpt2")
    parser.add_argument("--cache", type=Path, default=Making().cache)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        path = model_path(arguments.model, Making(arguments.cache, say=lambda line: print(line, file=sys.stderr)))
        size = file_bytes(path)
    except PamdiError as error:
        print(f"engines_memory: {error}", file=sys.stderr)
        return 1
    pamdi = [sys.executable, "-m", "pamdi", "engines"]
    peaks: Dict[str, int] = {"cut": peak_bytes([*pamdi, "cut", str(path)])}
    for name, options in SEGMENTS.items():
        with tempfile.TemporaryDirectory() as out:
            peaks[f"export, {name}"] = peak_bytes([*pamdi, "export", str(path), "--out", f"{out}/m", *options])
    holds = max(peaks.values()) < TIMES_MAX * size
    if arguments.json:
        print(json.dumps({"file_bytes": size, "peaks": peaks, "holds": holds}))
        return 0 if holds else 1
    print(f"{path.name}: {size / 2**20:.0f} MiB; this process and torch apart")
    for name, peak in peaks.items():
        print(f"  {name:30} peak {peak / 2**20:5.0f} MiB, {peak / size:.2f} x the file")
    verdict = "holds " if holds else "BROKEN"
    print(
        f"{verdict} peak memory of cutting and segmenting: {max(peaks.values()) / size:.2f} < {TIMES_MAX:g} x the file"
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
