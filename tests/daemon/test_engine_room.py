"""What the executor is told: the class of a work reaches the back end, whose hardware may know two."""

import asyncio
from pathlib import Path
from typing import Any, Callable, List, Mapping, Sequence

import numpy as np
import pytest

from pamdi.core.errors import BadInput, EngineError
from pamdi.core.events import EngineFailed, EngineLoaded, EngineUnloaded, Inferred, InferredTogether
from pamdi.core.instructions import Infer, InferTogether, Load, Part, Unload
from pamdi.core.segment import Segment
from pamdi.core.work import Key
from pamdi.daemon.engine_room import EngineRoom
from pamdi.engines.backend import Arrays, Backend, Outcome
from pamdi.engines.stub_backend import StubBackend
from tests.daemon.running import MODEL, STORE

FIRST = Segment(MODEL, 0, 1)


class Listening(StubBackend):
    """Keeps whether each run was urgent."""

    def __init__(self) -> None:
        super().__init__()
        self.urgent: List[bool] = []

    def run(self, handle: Any, tensors: Mapping[str, "np.ndarray"], urgent: bool = False) -> Arrays:
        self.urgent.append(urgent)
        return super().run(handle, tensors, urgent)


async def test_an_urgent_work_runs_as_urgent_and_a_normal_one_does_not() -> None:
    backend = Listening()
    events: "asyncio.Queue[Any]" = asyncio.Queue()
    said: List[str] = []
    room = EngineRoom(backend, Path(STORE), events.put_nowait, said.append, is_urgent=lambda urgency: urgency > 1.0)
    room.load(Load(FIRST, "", 0))
    assert isinstance(await asyncio.wait_for(events.get(), 60.0), EngineLoaded)
    image = {"image": np.zeros((1, 3, 32, 32), np.float32)}
    for number, urgency in enumerate((10.0, 1.0)):
        room.infer(Infer(Key("s", str(number), 0, 0, 0), FIRST, image, urgency))
        assert isinstance(await asyncio.wait_for(events.get(), 60.0), Inferred)
    room.close()
    assert (backend.urgent, said) == ([True, False], [])


async def test_outputs_that_leave_begin_to_come_before_they_are_said_and_those_that_stay_do_not() -> None:
    pytest.importorskip("onnx", reason="the fake TensorRT needs it")
    from tests.tensorrt.fake_backend import FakeTensorRTBackend

    backend = FakeTensorRTBackend()
    events: "asyncio.Queue[Any]" = asyncio.Queue()
    room = EngineRoom(backend, Path(STORE), events.put_nowait, lambda line: None)
    room.load(Load(FIRST, "", 0))
    await asyncio.wait_for(events.get(), 60.0)
    came = []
    parts = tuple(Part(Key("s", str(number), 0, 0, 0), image()) for number in range(2))
    for leaves in ((True,), (False,)):
        room.infer(Infer(parts[0].key, FIRST, image(), 1.0), leaves)
        ended = await asyncio.wait_for(events.get(), 60.0)
        came.append((ended.nbytes, [way for way, _ in backend.memory.copies]))
        backend.memory.copies.clear()
    room.infer_together(InferTogether(FIRST, parts, 1.0), (False, True))
    ended = await asyncio.wait_for(events.get(), 60.0)
    came.append((ended.outcomes[0].nbytes, [way for way, _ in backend.memory.copies]))
    room.close()
    assert came == [(65536, ["in", "out"]), (65536, ["in"]), (65536, ["in", "out"])]


class Batching(StubBackend):
    """Says that it takes eight, and fails as it is told to."""

    def __init__(self, failing: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.sizes: List[int] = []
        self._failing = failing

    def batch_max(self, handle: Any) -> int:
        return 8

    def run_together(
        self, handle: Any, works: Sequence[Mapping[str, "np.ndarray"]], urgent: bool = False
    ) -> List[Outcome]:
        self.sizes.append(len(works))
        self._failing()
        return super().run_together(handle, works, urgent)


def image(count: int = 1) -> "dict[str, np.ndarray]":
    return {"image": np.zeros((count, 3, 32, 32), np.float32)}


async def together(backend: Backend, payloads: List[Any]) -> List[Any]:
    """What a room says to a load, and to these works as one batch."""
    events: "asyncio.Queue[Any]" = asyncio.Queue()
    room = EngineRoom(backend, Path(STORE), events.put_nowait, lambda line: None)
    room.load(Load(FIRST, "", 0))
    heard = [await asyncio.wait_for(events.get(), 60.0)]
    parts = tuple(Part(Key("s", str(number), 0, 0, 0), payload) for number, payload in enumerate(payloads))
    room.infer_together(InferTogether(FIRST, parts, 1.0))
    heard.append(await asyncio.wait_for(events.get(), 60.0))
    room.close()
    return heard


async def test_a_load_says_how_many_works_the_engine_takes_and_a_batch_is_one_run_with_an_outcome_each() -> None:
    backend = Batching()
    loaded, ended = await together(backend, [image(), {"picture": 1}, image(2)])
    assert (loaded, backend.sizes) == (EngineLoaded(FIRST, 8), [3])
    assert isinstance(ended, InferredTogether)
    said = [(o.key.id, o.nbytes, o.payload is None, o.detail[:32]) for o in ended.outcomes]
    assert said == [("0", 65536, False, ""), ("1", 0, True, f"{FIRST}: inputs are"), ("2", 131072, False, "")]


@pytest.mark.parametrize("error", [EngineError("broken"), BadInput("bad"), RuntimeError("the driver is gone")])
async def test_a_batch_that_raises_all_the_same_fails_all_its_works_with_the_reason(error: Exception) -> None:
    def fail() -> None:
        raise error

    _, ended = await together(Batching(fail), [image(), image()])
    assert [str(error) in outcome.detail and outcome.payload is None for outcome in ended.outcomes] == [True, True]


async def test_the_loader_and_the_runner_each_bring_the_gpus_context() -> None:
    """Over the fake TensorRT, whose memory refuses a thread that has made no context its own, as CUDA does."""
    pytest.importorskip("onnx", reason="the fake TensorRT needs it")
    from tests.tensorrt.fake_backend import FakeTensorRTBackend

    backend = FakeTensorRTBackend()
    own = backend.memory.taken.all()
    events: "asyncio.Queue[Any]" = asyncio.Queue()
    room = EngineRoom(backend, Path(STORE), events.put_nowait, lambda line: None)
    room.load(Load(FIRST, "", 0))
    loaded = await asyncio.wait_for(events.get(), 60.0)
    assert loaded == EngineLoaded(FIRST, 8), loaded.reason if isinstance(loaded, EngineFailed) else loaded
    parts = tuple(Part(Key("s", str(number), 0, 0, 0), image()) for number in range(4))
    room.infer(Infer(parts[0].key, FIRST, image(), 1.0))
    ended = await asyncio.wait_for(events.get(), 60.0)
    assert isinstance(ended, Inferred), ended
    room.infer_together(InferTogether(FIRST, parts, 1.0))
    ended = await asyncio.wait_for(events.get(), 60.0)
    assert [outcome.detail for outcome in ended.outcomes] == [""] * 4
    assert room.counters()["works_in_batches"] == 4 and room.counters()["enqueues"] == 2
    room.unload(Unload(FIRST))
    assert await asyncio.wait_for(events.get(), 60.0) == EngineUnloaded(FIRST)
    room.close()
    assert backend.memory.taken.all() == own
