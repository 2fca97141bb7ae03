"""The back end over a fake TensorRT: what reaches the device, what comes back, and what is given back."""

from pathlib import Path
from typing import List

import msgspec
import numpy as np
import pytest

from pamdi.core.errors import BadInput, EngineError
from pamdi.core.segment import Segment
from pamdi.engines.digits import load
from pamdi.engines.manifest import read_manifest, write_manifest
from pamdi.engines.open_backend import open_backend
from pamdi.engines.tensorrt_backend import Loaded, TensorRTBackend
from tests.tensorrt.fake_backend import BINDINGS, DEVICE, FakeTensorRTBackend, with_engines
from tests.tensorrt.host_memory import HostMemory
from tests.tensorrt.used_api import used_api

STORE = Path(__file__).parents[1] / "engines" / "store" / "resnet56-digits"
MODEL = "resnet56-digits"


def image(count: int) -> "np.ndarray":
    return load("test")[0][:count]


def whole_chain(backend: FakeTensorRTBackend) -> List[Loaded]:
    return [backend.load(STORE, Segment(MODEL, unit, unit + 1)) for unit in range(4)]


def test_the_fake_has_every_method_that_the_contract_holds_the_real_bindings_to() -> None:
    for owner, attribute, _ in used_api().members:
        if attribute not in ("num_compute_capabilities", "set_compute_capability"):  # TensorRT-RTX's
            assert hasattr(getattr(BINDINGS.trt, owner), attribute), f"{owner}.{attribute}"


def test_a_chain_hands_over_on_the_device_and_gives_what_onnxruntime_gives() -> None:
    backend, ort = FakeTensorRTBackend(), open_backend("onnxruntime", 1, "all")
    tensors = {"image": image(3)}
    answer = backend.run_chain(whole_chain(backend), tensors)
    assert backend.memory.copies == [("in", 3 * 3 * 32 * 32 * 4), ("out", 3 * 10 * 4)]
    for unit in range(4):
        tensors = ort.run(ort.load(STORE, Segment(MODEL, unit, unit + 1)), tensors)
    np.testing.assert_allclose(answer["logits"], tensors["logits"], rtol=1e-4, atol=1e-4)


def test_all_memory_is_given_back_on_unload_and_buffers_are_taken_once() -> None:
    backend = FakeTensorRTBackend()
    handles = whole_chain(backend)
    taken = backend.memory.taken_bytes
    assert taken > 0
    for count in (1, 8, 3):
        backend.run_chain(handles, {"image": image(count)})
    assert backend.memory.taken_bytes == taken
    for handle in handles:
        backend.unload(handle)
    assert backend.memory.taken_bytes == 0


def test_works_that_run_together_get_their_own_answers_back() -> None:
    backend = FakeTensorRTBackend()
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    works = [{"image": image(5)[:1]}, {"image": image(5)[1:4]}, {"image": image(5)[4:]}]
    together = backend.run_together(handle, works)
    for work, answer in zip(works, together):
        for name, array in backend.run(handle, work).items():
            np.testing.assert_allclose(answer[name], array, rtol=1e-5, atol=1e-5)


def test_an_answer_is_not_overwritten_by_the_next_run() -> None:
    backend = FakeTensorRTBackend()
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    (first,) = backend.run(handle, {"image": image(1)}).values()
    kept = first.copy()
    backend.run(handle, {"image": image(2)[1:]})
    assert first.tobytes() == kept.tobytes()


def test_a_batch_beyond_the_profile_is_refused_with_the_bounds() -> None:
    backend = FakeTensorRTBackend()
    with pytest.raises(BadInput, match="batch 9; its engine takes 1 to 8"):
        backend.run(backend.load(STORE, Segment(MODEL, 0, 1)), {"image": image(9)})


def test_segments_that_do_not_follow_each_other_are_refused() -> None:
    backend = FakeTensorRTBackend()
    handles = whole_chain(backend)
    with pytest.raises(BadInput, match="does not follow"):
        backend.run_chain([handles[0], handles[2]], {"image": image(1)})


def test_an_engine_that_does_not_fit_and_one_that_is_missing_are_refused_with_the_cure(tmp_path: Path) -> None:
    other = TensorRTBackend(BINDINGS, HostMemory(), DEVICE._replace(tensorrt="8.5.2"))
    folder = with_engines(STORE)
    with pytest.raises(EngineError, match=r"built for TensorRT 10\.3\.0, this device has 8\.5\.2.*engines build"):
        other.load(folder, Segment(MODEL, 0, 1))
    with pytest.raises(EngineError, match="no TensorRT engine in .*--device orin-nano"):
        TensorRTBackend(BINDINGS, HostMemory(), DEVICE).load(STORE, Segment(MODEL, 0, 1))


def test_a_plan_that_is_none_takes_no_memory(tmp_path: Path) -> None:
    import shutil

    from pamdi.engines.manifest import sha256_of

    folder = tmp_path / MODEL
    shutil.copytree(with_engines(STORE), folder)
    (folder / "0000-0001.plan").write_bytes(b"corrupt")
    manifest = read_manifest(folder)
    engine = msgspec.structs.replace(manifest.engines[0], sha256=sha256_of(folder / "0000-0001.plan"))
    write_manifest(folder, msgspec.structs.replace(manifest, engines=(engine,)))
    memory = HostMemory()
    with pytest.raises(EngineError, match="0000-0001.plan: TensorRT 10.3.0 cannot load it: build it again"):
        TensorRTBackend(BINDINGS, memory, DEVICE).load(folder, Segment(MODEL, 0, 1))
    assert memory.taken_bytes == 0
