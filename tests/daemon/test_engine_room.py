"""What the executor is told: the class of a work reaches the back end, whose hardware may know two."""

import asyncio
from pathlib import Path
from typing import Any, List, Mapping

import numpy as np

from pamdi.core.events import EngineLoaded, Inferred
from pamdi.core.instructions import Infer, Load
from pamdi.core.segment import Segment
from pamdi.core.work import Key
from pamdi.daemon.engine_room import EngineRoom
from pamdi.engines.backend import Arrays
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
