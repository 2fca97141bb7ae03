"""Run in a process of its own, over the stub driver: everything that a device memory does, by the real library.

    python exercise_memory.py cuda_bindings|pycuda [MODEL_FOLDER]

Prints, as JSON, what came of it. With a folder of engines that the fake TensorRT made, the back end runs them too.
"""

import json
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping

import numpy as np

from pamdi.core.errors import EngineError
from pamdi.core.segment import Segment
from pamdi.engines.device_memory import DeviceMemory
from pamdi.engines.digits import load
from pamdi.engines.manifest import read_manifest

NBYTES = 100


def opened(name: str) -> DeviceMemory:
    if name == "pycuda":
        from pamdi.engines.pycuda_memory import PycudaMemory

        return PycudaMemory()
    from pamdi.engines.cuda_bindings_memory import CudaBindingsMemory

    return CudaBindingsMemory()


def copied(memory: DeviceMemory) -> bool:
    """In on one stream, out on another that waits for it by an event; all of it is given back."""
    address, near, far = memory.take(NBYTES), memory.take_pinned(NBYTES), memory.take_pinned(NBYTES)
    inwards, outwards, event = memory.stream(True), memory.stream(False), memory.event()
    near.array[:] = np.arange(NBYTES)
    memory.to_device(address, near, NBYTES, inwards)
    memory.mark(event, inwards)
    memory.hold(outwards, event)
    memory.to_host(far, address, NBYTES, outwards)
    memory.wait(outwards)
    memory.wait_for(event)
    same = bool((far.array == near.array).all()) and memory.taken.all() == {
        "bytes": 3 * NBYTES, "streams": 2, "events": 1,
    }  # fmt: skip
    memory.give_back(address)
    for pinned in (near, far):
        memory.give_back_pinned(pinned)
    for stream in (inwards, outwards):
        memory.give_back_stream(stream)
    memory.give_back_event(event)
    return same


def replayed(memory: DeviceMemory) -> List[Any]:
    """A recorded copy there and back does nothing until it is launched, and then does it with what is there then."""
    assert memory.graphs is not None
    address, near, far = memory.take(NBYTES), memory.take_pinned(NBYTES), memory.take_pinned(NBYTES)
    stream = memory.stream(False)
    seen: List[Any] = []
    memory.graphs.begin(stream)
    memory.to_device(address, near, NBYTES, stream)
    memory.to_host(far, address, NBYTES, stream)
    graph = memory.graphs.end(stream)
    for value in (0, 7, 9):
        near.array[:] = value
        if value:
            memory.graphs.launch(graph, stream)
        seen.append(int(far.array[-1]))
    memory.graphs.begin(stream)
    seen.append(refused(lambda: memory.graphs and memory.graphs.end(stream)))
    seen.append(memory.taken.all()["graphs"])
    memory.graphs.give_back(graph)
    memory.give_back(address)
    memory.give_back_pinned(near)
    memory.give_back_pinned(far)
    memory.give_back_stream(stream)
    return seen


def refused(call: Callable[[], Any]) -> str:
    try:
        call()
    except EngineError as error:
        return str(error)
    except Exception as error:  # the library's own, outside any context
        return f"{type(error).__name__}: {error}"
    return ""


def in_threads(memory: DeviceMemory) -> List[Any]:
    """What one thread takes another uses and gives back; nested contexts are one context; outside there is none."""
    found: List[Any] = []

    def takes() -> None:
        with memory.current(), memory.current():
            found.extend([memory.take(NBYTES), memory.take_pinned(NBYTES), memory.stream(False), memory.event()])

    def gives_back() -> None:
        with memory.current():
            address, pinned, stream, event = found
            memory.to_device(address, pinned, NBYTES, stream)
            memory.mark(event, stream)
            memory.wait_for(event)
            memory.give_back(address)
            memory.give_back_pinned(pinned)
            memory.give_back_event(event)
            memory.give_back_stream(stream)

    for work in (takes, gives_back):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    return [memory.taken.all(), bool(refused(lambda: memory.take(NBYTES)))]


def chained(memory: DeviceMemory, folder: Path) -> Dict[str, Any]:
    """The back end over this memory: six times the whole chain, works of both urgencies and a batch, against
    onnxruntime; and what is not given back. The fake TensorRT computes at once, so there is nothing to record, and each
    engine must go on without graphs."""
    from pamdi.engines.open_backend import open_backend
    from pamdi.engines.tensorrt_backend import TensorRTBackend
    from tests.tensorrt.fake_backend import BINDINGS, DEVICE

    lines: List[str] = []
    backend, plain = TensorRTBackend(BINDINGS, memory, DEVICE, lines.append), open_backend("onnxruntime", 1, "all")
    model = read_manifest(folder).model
    segments = [Segment(model, unit, unit + 1) for unit in range(4)]
    handles = [backend.load(folder, segment) for segment in segments]
    images, worst = load("test")[0][:12], 0.0
    for number in range(6):
        tensors: Mapping[str, "np.ndarray"] = {"image": images[2 * number : 2 * number + 2]}
        stays, exact = tensors, tensors
        for handle, segment in zip(handles, segments):
            stays = backend.run(handle, stays, urgent=number % 2 == 0)
            backend.prepare(handle, [tensors])
            tensors = {name: array.copy() for name, array in backend.run(handle, tensors, number % 2 == 1).items()}
            exact = plain.run(plain.load(folder, segment), exact)
        for found in (stays, tensors):
            worst = max(worst, float(np.abs(found["logits"] - exact["logits"]).max()))
    together = backend.run_together(handles[0], [{"image": images[i : i + 1]} for i in range(12)])
    turned = [one for one in together[1::-1] if not isinstance(one, Exception)]
    backend.run_together(handles[1], turned)  # not as they lie: copied on the device
    for handle in handles:
        backend.unload(handle)
    backend.close()
    failed = [str(one) for one in together if isinstance(one, Exception)]
    return {"worst": worst, "failed": failed, "lines": len(lines), "left": memory.taken.all()}


def main() -> None:
    memory = opened(sys.argv[1])
    said: Dict[str, Any] = {"describe": memory.describe(), "threads": in_threads(memory)}
    with memory.current():
        said["capability"] = memory.compute_capability()
        said["copied"] = copied(memory)
        said["replayed"] = replayed(memory) if memory.graphs is not None else None
        said["left"] = memory.taken.all()
    if len(sys.argv) > 2:
        said["chained"] = chained(memory, Path(sys.argv[2]))
    print(json.dumps(said))


if __name__ == "__main__":
    main()
