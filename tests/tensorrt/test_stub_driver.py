"""cuda-bindings and pycuda, the real ones, over a driver that we compile: every call of ours with its real types.

No GPU is needed and none is shown: the stub's memory is the host's and its streams do at once what they are asked to.
What is shown is that the calls exist, take what we give, need the context that we make current, and pair up.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

from tests.tensorrt.fake_backend import with_engines

HERE = Path(__file__).parent
STORE = HERE.parent / "engines" / "store" / "resnet56-digits"
RUN_S_MAX = 120
PAIRS = {
    "cuMemAlloc_v2": "cuMemFree_v2", "cuMemHostAlloc": "cuMemFreeHost", "cuEventCreate": "cuEventDestroy_v2",
    "cuStreamCreateWithPriority": "cuStreamDestroy_v2", "cuGraphInstantiateWithFlags": "cuGraphExecDestroy",
    "cuStreamEndCapture": "cuGraphDestroy",
}  # fmt: skip


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the stub")
    folder = tmp_path_factory.mktemp("driver")
    flags = ["-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")]
    subprocess.run(["gcc", *flags, str(HERE / "stub_driver.c"), "-ldl"], check=True)
    return folder


def exercised(driver: Path, library: str) -> Tuple[Dict[str, Any], "Counter[str]"]:
    log = driver / f"{library}.log"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver), "STUB_DRIVER_LOG": str(log)}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / "exercise_memory.py"), library, str(with_engines(STORE))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RUN_S_MAX)
    assert done.returncode == 0, done.stderr
    said: Dict[str, Any] = json.loads(done.stdout)
    chained = said.pop("chained")
    assert chained.pop("worst") < 1e-3
    assert chained.pop("lines") == (4 if library == "cuda_bindings" else 0)  # engines without graphs, which say so
    assert chained == {"failed": [], "left": {}}
    calls = Counter(log.read_text().split())
    assert calls["cuMemcpyDtoDAsync_v2"] == 2  # the batch whose works did not lie in its order
    return said, calls


def test_cuda_bindings_copies_records_replays_and_gives_back_in_any_thread(driver: Path) -> None:
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("no cuda-bindings: make tensorrt-proof has it")
    said, calls = exercised(driver, "cuda_bindings")
    assert said.pop("describe").endswith("with stream priorities and graphs")
    invalidated = said["replayed"].pop(3)
    assert said == {
        "threads": [{}, True], "capability": "8.7", "copied": True, "replayed": [0, 7, 9, 1], "left": {},
    }  # fmt: skip
    assert "CAPTURE_INVALIDATED" in invalidated
    assert {made: calls[made] for made in PAIRS} == {made: calls[freed] for made, freed in PAIRS.items()}
    assert min(calls[made] for made in PAIRS) >= 1


def test_pycuda_copies_and_gives_back_in_any_thread(driver: Path) -> None:
    if importlib.util.find_spec("pycuda") is None:
        pytest.skip("no pycuda: it has no wheels, and is compiled against CUDA's headers")
    said, calls = exercised(driver, "pycuda")
    assert said.pop("describe").endswith("without stream priorities and graphs")
    assert said == {"threads": [{}, True], "capability": "8.7", "copied": True, "replayed": None, "left": {}}
    for made, freed in PAIRS.items():
        assert calls[made] == calls[freed], (made, calls)
