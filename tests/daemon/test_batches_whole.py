"""From submission to answer on one device: the core asks for batches, the engine room runs them on TensorRT (the fake
one), and every work gets the answer that it would have had alone."""

import asyncio
from pathlib import Path
from typing import Any, Dict, List, Mapping

import numpy as np
import pytest

from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core.allocation import DeviceAllocation, ModelSpec, Resident, SourceSpec
from pamdi.core.device import Device
from pamdi.core.limits import Limits
from pamdi.core.segment import Segment
from pamdi.core.work import WorkId
from pamdi.daemon.engine_room import EngineRoom
from pamdi.engines.digits import load
from pamdi.engines.manifest import read_manifest
from pamdi.engines.open_backend import open_backend
from tests.daemon.running import MODEL, STORE

WORKS = 21
WAIT_S_MAX = 120.0
FOLDER = Path(STORE) / MODEL


class Shell:
    """What the daemon does with a device's instructions, less links, journal and broker. Time is a count of events."""

    def __init__(self, backend: Any) -> None:
        self.device = Device("d0", Limits(works_ahead_max=32, outputs_max=32))
        self.events: "asyncio.Queue[Any]" = asyncio.Queue()
        self.room = EngineRoom(backend, Path(STORE), self.events.put_nowait, print)
        self.answers: Dict[str, Any] = {}
        self.batches: List[int] = []
        self.now = 0.0

    def feed(self, event: Any) -> None:
        self.now += 1e-6
        for i in self.device.handle(event, self.now):
            if isinstance(i, ins.Load):
                self.room.load(i)
            elif isinstance(i, ins.Infer):
                self.room.infer(i)
            elif isinstance(i, ins.InferTogether):
                self.batches.append(len(i.parts))
                self.room.infer_together(i)
            elif isinstance(i, (ins.JournalOpen, ins.JournalFinal)):
                self.events.put_nowait(ev.JournalWritten(i.work, isinstance(i, ins.JournalFinal)))
            elif isinstance(i, ins.PublishResult) and i.status != "admitted":
                self.answers[i.work.id] = (i.status, i.payload)

    async def until_answered(self, count: int) -> None:
        while len(self.answers) < count:
            self.feed(await asyncio.wait_for(self.events.get(), WAIT_S_MAX))
        self.room.close()


def allocation() -> DeviceAllocation:
    manifest = read_manifest(FOLDER)
    residents = [
        Resident(MODEL, s.first, s.stop, s.sha256, 0.01, 1000, ((4, 0.015), (8, 0.02))) for s in manifest.segments
    ]
    sources = (SourceSpec("gate", MODEL, "d0", gamma=10.0), SourceSpec("yard", MODEL, "d0"))
    return DeviceAllocation(
        1, segments=tuple(residents), sources=sources, models=(ModelSpec(MODEL, manifest.bytes),)
    )  # fmt: skip


async def test_works_that_run_as_batches_get_the_answers_they_would_have_had_alone() -> None:
    pytest.importorskip("onnx", reason="the fake TensorRT needs it")
    from tests.tensorrt.fake_backend import FakeTensorRTBackend

    shell, images = Shell(FakeTensorRTBackend()), load("test")[0][:WORKS]
    shell.feed(ev.AllocationReceived(allocation()))
    for i in range(WORKS):  # while the engines load
        work = WorkId("gate" if i % 3 == 0 else "yard", str(i))
        shell.feed(ev.Submitted(work, f"digest-{i}", {"image": images[i : i + 1]}, images[i].nbytes))
    await shell.until_answered(WORKS)
    assert max(shell.batches) == 8 and shell.room.counters()["works_in_batches"] == sum(shell.batches) > WORKS
    plain = open_backend("onnxruntime", 1, "all")
    tensors: Mapping[str, "np.ndarray"] = {"image": images}
    for unit in range(4):
        tensors = plain.run(plain.load(FOLDER, Segment(MODEL, unit, unit + 1)), tensors)
    for i in range(WORKS):
        status, payload = shell.answers[str(i)]
        assert status == "answered"
        np.testing.assert_allclose(payload["logits"][0], tensors["logits"][i], rtol=1e-4, atol=1e-4)
