"""The real back end over the fake TensorRT: engines are made of whatever folder is loaded, once, in a copy."""

import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, List

import msgspec

from pamdi.core.segment import Segment
from pamdi.engines.fitting import Device
from pamdi.engines.manifest import EngineInfo, read_manifest, sha256_of, write_manifest
from pamdi.engines.tensorrt_backend import Loaded, TensorRTBackend
from pamdi.engines.tensorrt_builder import Bindings, Settings, build_plan
from pamdi.engines.tensorrt_versions import version_row
from tests.tensorrt.fake import tensorrt as fake
from tests.tensorrt.host_memory import HostMemory

BINDINGS = Bindings(fake, version_row(fake.__version__), fake.__version__)
DEVICE = Device("orin-nano", "8.7", fake.__version__)
BATCHES = (1, 4, 8)


@lru_cache(maxsize=None)
def with_engines(folder: Path) -> Path:
    """A copy of the folder with a float32 engine for every segment."""
    copy = Path(tempfile.mkdtemp()) / folder.name
    shutil.copytree(folder, copy)
    manifest = read_manifest(copy)
    engines = []
    for info in manifest.segments:
        built = build_plan(BINDINGS, copy / info.onnx, Settings(BATCHES, 1 << 30, False), lambda phase: True)
        path = copy / f"{info.first:04d}-{info.stop:04d}.plan"
        path.write_bytes(built.plan)
        engines.append(
            EngineInfo(
                info.first,
                info.stop,
                "orin-nano",
                "tensorrt",
                "fp32",
                path.name,
                sha256_of(path),
                tensorrt=fake.__version__,
                compute_capability="8.7",
                batches=BATCHES,
                segment_sha256=info.sha256,
                inputs=manifest.boundaries[info.first],
                outputs=manifest.boundaries[info.stop],
            )  # fmt: skip
        )
    write_manifest(copy, msgspec.structs.replace(manifest, engines=tuple(engines)))
    return copy


class FakeTensorRTBackend(TensorRTBackend):
    def __init__(self, with_graphs: Any = True) -> None:
        self.memory = HostMemory(with_graphs)
        self.said: List[str] = []
        super().__init__(BINDINGS, self.memory, DEVICE, self.said.append)

    def load(self, folder: Path, segment: Segment) -> Loaded:
        return super().load(with_engines(folder), segment)
