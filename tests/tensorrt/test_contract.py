"""Our code against the real Python bindings of TensorRT: every name, attribute and argument that it uses, per version.

The bindings are wheels; their folder is given by PAMDI_TENSORRT_BINDINGS, which ``make tensorrt-proof`` fills. The
table of versions is held against them too.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

from pamdi.core.errors import EngineError
from pamdi.engines.cuda_bindings_memory import CudaBindingsMemory
from pamdi.engines.tensorrt_versions import version_row
from tests.tensorrt.used_api import ENGINES, used_api

HERE = Path(__file__).parent
VERSIONS = {"10.3.0": "10", "10.13.3.9": "10", "11.4.0.106": "11"}
READ_S_MAX = 120
VERSION_DEPENDENT = {
    "NetworkDefinitionCreationFlag",
    "BuilderFlag",
    "ComputeCapability",
    "ComputeCapability.__members__",
}
RTX_ONLY = {"num_compute_capabilities", "set_compute_capability"}


@pytest.fixture(scope="module")
def shims(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the shim")
    folder = tmp_path_factory.mktemp("shims")
    for major in sorted(set(VERSIONS.values())):
        for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
            name = f"lib{library}.so.{major}"
            flags = ["-shared", "-fPIC", "-w", f"-Wl,-soname,{name}", "-o", str(folder / name)]
            subprocess.run(["gcc", *flags, str(HERE / "shim.c")], check=True)
    return folder


@pytest.fixture(scope="module", params=list(VERSIONS))
def bindings(request: pytest.FixtureRequest, shims: Path) -> Dict[str, Any]:
    version = str(request.param)
    root = os.environ.get("PAMDI_TENSORRT_BINDINGS")
    if not root:
        pytest.skip("PAMDI_TENSORRT_BINDINGS is not set: make tensorrt-proof fetches the bindings")
    folder = Path(root) / version
    if not (folder / "tensorrt_bindings").is_dir():
        pytest.skip(f"no bindings of {version} in {root}")
    command = [sys.executable, str(HERE / "read_bindings.py"), str(shims), VERSIONS[version], str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=READ_S_MAX)
    assert done.returncode == 0, done.stderr
    read: Dict[str, Any] = json.loads(done.stdout)
    assert read["version"] == version
    return read


def test_the_source_is_really_read() -> None:
    used = used_api()
    assert ("Builder", "build_serialized_network", 2) in used.members and "MemoryPoolType.WORKSPACE" in used.names
    assert len(used.members) >= 20


def test_every_name_that_we_use_is_there(bindings: Dict[str, Any]) -> None:
    for name in used_api().names - VERSION_DEPENDENT - {"__version__"}:
        outer, _, inner = name.partition(".")
        assert outer in bindings["names"], name
        assert not inner or inner in bindings["classes"][outer], name


def test_every_attribute_that_we_use_is_there_and_takes_what_we_give(bindings: Dict[str, Any]) -> None:
    for owner, attribute, count in sorted(used_api().members, key=str):
        if attribute in RTX_ONLY:
            continue
        members = bindings["classes"][owner]
        assert attribute in members, f"{owner}.{attribute}"
        signature = members[attribute]
        if count is None or "(self" not in signature:
            continue  # a property, or overloads, whose first line says only (*args, **kwargs)
        most, least = _arguments(signature)
        assert least <= count <= most, f"{owner}.{attribute} takes {least} to {most}, we give {count}: {signature}"


def _arguments(signature: str) -> "tuple[int, int]":
    """How many arguments after self, at most and at least, of pybind11's ``name(self: T, a: T, b: T = 0) -> T``."""
    depth, parts, start = 0, [], signature.index("(") + 1
    for i in range(start, len(signature)):
        closes = signature[i] in ")]" or (signature[i] == ">" and signature[i - 1] != "-")
        depth += (signature[i] in "([<") - closes
        if signature[i] == "," and depth == 0 or depth < 0:
            parts.append(signature[start:i])
            start = i + 1
            if depth < 0:
                break
    given = parts[1:]
    return len(given), sum("=" not in part for part in given)


def test_the_table_says_what_the_bindings_have(bindings: Dict[str, Any]) -> None:
    row, classes = version_row(bindings["version"]), bindings["classes"]
    have = (
        "execute_async_v3" in classes["IExecutionContext"],
        "STRONGLY_TYPED" in classes["NetworkDefinitionCreationFlag"],
        "FP16" in classes["BuilderFlag"],
        "EXPLICIT_BATCH" in classes["NetworkDefinitionCreationFlag"],
        "IProgressMonitor" in classes,
        "INT64" in classes["DataType"],
        row.memory_size in classes["ICudaEngine"],
        "node_operator" in classes["ParserError"],
        "USER_MANAGED" in classes["ExecutionContextAllocationStrategy"]
        and "set_device_memory" in classes["IExecutionContext"],
    )
    assert have == (
        row.named_tensors, row.strongly_typed, row.fp16_flag, row.explicit_batch, row.progress_monitor, row.int64, True,
        row.named_faults, row.user_managed,
    )  # fmt: skip


def test_tensorrts_own_calibrators_end_with_10_and_what_our_int8_graphs_need_does_not(bindings: Dict[str, Any]) -> None:
    """Why ranges are calibrated before TensorRT sees a graph: see ``int8``."""
    classes, has_them = bindings["classes"], bindings["version"].startswith("10.")
    assert ("IInt8EntropyCalibrator2" in classes, "int8_calibrator" in classes["IBuilderConfig"]) == (has_them,) * 2
    assert {"add_quantize", "add_dequantize"} <= set(classes["INetworkDefinition"])


def test_cuda_bindings_has_every_call_that_we_make_and_says_so_where_there_is_no_driver() -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="no cuda-bindings: make tensorrt-proof has it")
    tree = ast.parse((ENGINES / "cuda_bindings_memory.py").read_text(encoding="utf-8"))
    calls = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("cu")}
    assert len(calls) >= 15 and [call for call in sorted(calls) if not hasattr(driver, call)] == []
    try:
        memory = CudaBindingsMemory()
    except EngineError as error:
        assert "no NVIDIA driver here" in str(error) or "CUDA refuses" in str(error)
    else:
        assert memory.taken.all() == {}
