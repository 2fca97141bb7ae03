"""The daemon's own code, from submission to answer, on TensorRT (the fake one): what crosses between host and GPU, and
when. There is no broker and there are no neighbours; all that is pretended is the back end's library and memory."""

import asyncio
import base64
import threading
from pathlib import Path
from typing import Any, AsyncIterator, Callable, Dict, List

import numpy as np
import pytest

from pamdi.client.broker_config import BrokerConfig
from pamdi.core import events as ev
from pamdi.core import instructions as ins
from pamdi.core import messages as ms
from pamdi.core.errors import EngineError
from pamdi.core.segment import Segment
from pamdi.core.work import Key, WorkId
from pamdi.daemon import service as door
from pamdi.daemon.config import DaemonConfig
from pamdi.daemon.main import claim_of
from pamdi.daemon.service import Service
from pamdi.engines.device_memory import Pinned
from pamdi.engines.digits import load
from tests.daemon.running import MODEL, STORE
from tests.daemon.test_batches_whole import allocation

pytest.importorskip("onnx", reason="the fake TensorRT needs it")

from tests.tensorrt.fake_backend import FakeTensorRTBackend

WAIT_S_MAX = 120.0
IMAGE_BYTES, LOGITS_BYTES = 3 * 32 * 32 * 4, 10 * 4


class Board:
    """A daemon's service without its broker. ``answers``: by work id."""

    def __init__(self, folder: Path, backend: FakeTensorRTBackend) -> None:
        config = DaemonConfig(
            "d0", "test-board", str(STORE), runtime_dir=str(folder / "run"), state_dir=str(folder / "state"),
            broker=BrokerConfig("mqtt://127.0.0.1:1"),
        )  # fmt: skip
        self.said: List[str] = []
        self.backend = backend
        self.service = Service(config, self.said.append, claim_of(config))
        self.answers: Dict[str, Any] = {}
        self._more = asyncio.Event()
        self.service._publish_result = self._result  # type: ignore[method-assign]
        self.service._journal.start()

    def _result(self, source: str, result: Any, urgency: float, done: Any) -> None:
        if result.status != "admitted":
            self.answers[result.id] = result
            self._more.set()

    async def allocate(self) -> None:
        """All four segments of the model, until they are loaded."""
        happened, loaded = self.service._engines._on_event, asyncio.Event()

        def hear(event: Any) -> None:
            happened(event)
            if len(self.service._device.slots.ready()) == 4:
                loaded.set()

        self.service._engines._on_event = hear
        self.service.happened(ev.AllocationReceived(allocation()))
        await asyncio.wait_for(loaded.wait(), WAIT_S_MAX)

    def submit(self, id: str, source: str = "yard") -> None:
        tensors = {"image": load("test")[0][int(id) : int(id) + 1]}
        self.service.happened(ev.Submitted(WorkId(source, id), f"digest-{id}", tensors, IMAGE_BYTES))

    async def until_answered(self, count: int) -> None:
        async def look() -> None:
            while len(self.answers) < count:
                self._more.clear()
                await self._more.wait()

        await asyncio.wait_for(look(), WAIT_S_MAX)

    def close(self) -> None:
        self.service._engines.close()
        self.service._journal.stop()


@pytest.fixture
async def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Board]]:
    boards: List[Board] = []

    def made(backend: FakeTensorRTBackend) -> Board:
        monkeypatch.setattr(door, "open_backend", lambda *args, **options: backend)
        boards.append(Board(tmp_path, backend))
        return boards[-1]

    yield made
    for one in boards:
        one.close()


def alone(count: int) -> "np.ndarray":
    """The logits of each digit by itself."""
    backend, found = FakeTensorRTBackend(), []
    handles = [backend.load(Path(STORE) / MODEL, Segment(MODEL, unit, unit + 1)) for unit in range(4)]
    for image in load("test")[0][:count]:
        tensors: Any = {"image": image[None]}
        for handle in handles:
            tensors = backend.run(handle, tensors)
        found.append(tensors["logits"][0])
    return np.array(found)


def logits(answer: Any) -> "np.ndarray":
    return np.frombuffer(base64.b64decode(answer.outputs["logits"].data), np.float32)


async def test_a_work_that_stays_on_its_board_crosses_once_in_and_once_out(board: Callable[..., Board]) -> None:
    one = board(FakeTensorRTBackend())
    await one.allocate()
    for id in "0123":
        one.submit(id)
        await one.until_answered(int(id) + 1)
    assert one.backend.memory.copies == [("in", IMAGE_BYTES), ("out", LOGITS_BYTES)] * 4
    for id, expected in zip("0123", alone(4)):
        assert logits(one.answers[id]).tobytes() == expected.tobytes()


async def test_works_of_two_classes_that_pass_each_other_and_run_in_batches_never_cross_in_between(
    board: Callable[..., Board],
) -> None:
    one, count = board(FakeTensorRTBackend()), 21
    await one.allocate()
    for number in range(count):
        one.submit(str(number), "gate" if number % 3 == 0 else "yard")
        if number % 5 == 0:
            await one.until_answered(number // 5)
    await one.until_answered(count)
    ways = {way: {n for w, n in one.backend.memory.copies if w == way} for way in ("in", "out")}
    assert all(nbytes % IMAGE_BYTES == 0 for nbytes in ways["in"]) and ways["out"] == {LOGITS_BYTES}
    assert [way for way, _ in one.backend.memory.copies].count("out") == count
    assert one.backend.counters["answers_moved_to_host"] == 0 < one.backend.counters["inputs_on_device"]
    for number, expected in enumerate(alone(count)):
        np.testing.assert_allclose(logits(one.answers[str(number)]), expected, rtol=1e-4, atol=1e-4)


async def test_the_next_works_input_is_on_its_way_before_the_present_one_has_ended(board: Callable[..., Board]) -> None:
    """The first work's run does not end before a second input has been put into a stream."""
    backend = FakeTensorRTBackend()
    two = threading.Event()
    memory = backend.memory
    to_device, wait_for = memory.to_device, memory.wait_for

    def counting(address: int, pinned: Pinned, nbytes: int, stream: int, at: int = 0) -> None:
        to_device(address, pinned, nbytes, stream, at)
        if len(memory.copies) == 2:
            two.set()

    def waiting(event: int) -> None:
        assert two.wait(WAIT_S_MAX)
        wait_for(event)

    memory.to_device = counting  # type: ignore[method-assign]
    memory.wait_for = waiting  # type: ignore[method-assign]
    one = board(backend)
    await one.allocate()
    for id in "01":
        one.submit(id)
    await one.until_answered(2)
    assert backend.counters["inputs_prepared"] == 1
    assert [way for way, _ in memory.copies] == ["in", "in", "out", "out"]
    for id, expected in zip("01", alone(2)):
        assert logits(one.answers[id]).tobytes() == expected.tobytes()


async def test_the_executor_is_told_before_anything_that_may_wait_for_bytes(
    board: Callable[..., Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else is done in the core's order."""
    one, done = board(FakeTensorRTBackend()), []
    key = Key("yard", "0", 0, 0, 1)
    said = [
        ins.Note("a"), ins.Send("d1", ms.Taken(key)), ins.Infer(key, Segment(MODEL, 0, 1), None, 1.0), ins.Note("b"),
    ]  # fmt: skip
    monkeypatch.setattr(one.service._device, "handle", lambda event, now: said)
    one.service._door.doers = {kind: lambda i: done.append(said.index(i)) for kind in map(type, said)}
    one.service.happened(ev.Woken())
    assert done == [2, 0, 1, 3]


async def test_a_gpu_that_no_longer_gives_what_lies_on_it_ends_the_daemon_so_that_others_hand_on_what_it_had(
    board: Callable[..., Board],
) -> None:
    backend = FakeTensorRTBackend()

    wait_for, runner = backend.memory.wait_for, "runner"

    def refuse(event: int) -> None:
        """From the moment that the work has been computed, and somebody reads its answer."""
        if not threading.current_thread().name.startswith(runner):
            raise EngineError("CUDA refuses with CUDA_ERROR_LAUNCH_FAILED: free device memory, or restart the daemon")
        wait_for(event)

    one = board(backend)
    await one.allocate()
    backend.memory.wait_for = refuse  # type: ignore[method-assign]
    one.submit("0")
    with pytest.raises(EngineError, match="LAUNCH_FAILED"):
        await asyncio.wait_for(one.service._until_stopped(), WAIT_S_MAX)
