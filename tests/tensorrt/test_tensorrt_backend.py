"""The back end over a fake TensorRT: what reaches the device, what comes back, and what is given back."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, List, Mapping

import msgspec
import numpy as np
import pytest

from pamdi.core.errors import BadInput, EngineError
from pamdi.core.segment import Segment
from pamdi.engines.digits import load
from pamdi.engines.manifest import read_manifest, write_manifest
from pamdi.engines.open_backend import open_backend
from pamdi.engines.tensorrt_backend import Loaded, TensorRTBackend
from pamdi.engines.tensorrt_runs import GRAPHS_MAX
from tests.tensorrt.fake import tensorrt as fake
from tests.tensorrt.fake_backend import BINDINGS, DEVICE, FakeTensorRTBackend, with_engines
from tests.tensorrt.host_memory import HostMemory
from tests.tensorrt.used_api import used_api

STORE = Path(__file__).parents[1] / "engines" / "store" / "resnet56-digits"
MODEL = "resnet56-digits"


def image(count: int) -> "np.ndarray":
    return load("test")[0][:count]


def whole_chain(backend: FakeTensorRTBackend) -> List[Loaded]:
    return [backend.load(STORE, Segment(MODEL, unit, unit + 1)) for unit in range(4)]


def chained(
    backend: FakeTensorRTBackend, handles: List[Loaded], tensors: Mapping[str, "np.ndarray"], urgent: bool = False
) -> Mapping[str, "np.ndarray"]:
    for handle in handles:
        tensors = backend.run(handle, tensors, urgent)
    return tensors


def bytes_of(answer: Mapping[str, "np.ndarray"]) -> bytes:
    (array,) = answer.values()
    return array.tobytes()


def floats(answer: Mapping[str, "np.ndarray"]) -> "np.ndarray":
    return np.frombuffer(bytes_of(answer), np.float32)


def test_the_fake_has_every_method_that_the_contract_holds_the_real_bindings_to() -> None:
    for owner, attribute, _ in used_api().members:
        if attribute not in ("num_compute_capabilities", "set_compute_capability"):  # TensorRT-RTX's
            assert hasattr(getattr(BINDINGS.trt, owner), attribute), f"{owner}.{attribute}"


def test_a_chain_hands_over_on_the_device_and_gives_what_onnxruntime_gives() -> None:
    backend, ort = FakeTensorRTBackend(), open_backend("onnxruntime", 1, "all")
    tensors: Mapping[str, "np.ndarray"] = {"image": image(3)}
    answer = chained(backend, whole_chain(backend), tensors)
    assert backend.memory.copies == [("in", 3 * 3 * 32 * 32 * 4)]
    assert answer["logits"].shape == (3, 10)  # somebody reads it
    assert backend.memory.copies == [("in", 3 * 3 * 32 * 32 * 4), ("out", 3 * 10 * 4)]
    for unit in range(4):
        tensors = ort.run(ort.load(STORE, Segment(MODEL, unit, unit + 1)), tensors)
    np.testing.assert_allclose(answer["logits"], tensors["logits"], rtol=1e-4, atol=1e-4)


def test_all_that_was_taken_is_given_back_and_buffers_are_taken_once() -> None:
    backend = FakeTensorRTBackend()
    own = backend.memory.taken.all()
    assert own == {"streams": 4}
    handles = whole_chain(backend)
    loaded = backend.memory.taken.all()
    assert loaded["events"] == 4 * (2 + 2 * 3) and set(loaded) == {"streams", "events", "bytes"}
    for count in (1, 8, 3, 3):
        chained(backend, handles, {"image": image(count)})
        chained(backend, handles, {"image": image(count)}, urgent=True)
    for _ in range(2):
        chained(backend, handles, {"image": image(3)})
    kept = [backend.run(handles[0], {"image": image(1)}) for _ in range(2)]
    backend.prepare(handles[0], [{"image": image(2)}])
    assert {**backend.memory.taken.all(), "graphs": 0} == {**loaded, "graphs": 0}
    assert backend.memory.taken.all()["graphs"] == backend.counters["graphs_recorded"] > 0
    for handle in handles:
        backend.unload(handle)
    assert backend.memory.taken.all() == own
    assert bytes_of(kept[0]) == bytes_of(kept[1]) != b""  # on the host since
    backend.prepare(handles[0], [{"image": image(2)}])  # a hint that comes late
    assert backend.memory.taken.all() == own
    backend.close()
    assert backend.memory.taken.all() == {}


def test_a_shape_is_enqueued_then_recorded_then_replayed() -> None:
    backend = FakeTensorRTBackend()
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    expected = open_backend("onnxruntime", 1, "all")
    session = expected.load(STORE, Segment(MODEL, 0, 1))
    for number in range(8):
        tensors = {"image": image(8)[number : number + 1]}
        for name, array in backend.run(handle, tensors).items():
            np.testing.assert_allclose(array, expected.run(session, tensors)[name], rtol=1e-4, atol=1e-4)
    assert graphs(backend) == (1, 1, 7)
    backend.run(handle, {"image": image(3)})  # another shape, with a context of its own
    backend.run(handle, {"image": image(1)})
    assert graphs(backend) == (2, 1, 8)


def graphs(backend: FakeTensorRTBackend) -> "tuple[int, ...]":
    return tuple(backend.counters[name] for name in ("enqueues", "graphs_recorded", "graph_launches"))


@pytest.mark.parametrize(("with_graphs", "failed", "said"), [(False, 0, 0), ("fail", 1, 1)])
def test_without_graphs_or_where_recording_fails_runs_are_enqueued_as_before(
    with_graphs: Any, failed: int, said: int
) -> None:
    backend = FakeTensorRTBackend(with_graphs)
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    answers = [backend.run(handle, {"image": image(1)})["add_256"].tobytes() for _ in range(6)]
    assert len(set(answers)) == 1
    assert (backend.counters["enqueues"], backend.counters["graphs_failed"], len(backend.said)) == (6, failed, said)
    assert all(line.startswith("resnet56-digits[0:1]: runs without CUDA graphs: ") for line in backend.said)
    assert "graphs" not in backend.memory.taken.all()


def test_graphs_are_bounded_and_what_is_beyond_is_enqueued() -> None:
    backend = FakeTensorRTBackend()
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    for _ in range(2):
        for urgent in (False, True):
            for count in range(1, 9):
                kept = [backend.run(handle, {"image": image(count)}, urgent) for _ in range(2)]  # in two places
                kept = [backend.run(handle, {"image": image(count)}, urgent) for _ in kept]
    assert backend.memory.taken.all()["graphs"] == backend.counters["graphs_recorded"] == GRAPHS_MAX


def test_the_next_works_input_is_on_its_way_while_one_computes_and_answers_come_in_order() -> None:
    backend = FakeTensorRTBackend(with_graphs=False)
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    works = [{"image": image(4)[i : i + 1]} for i in range(4)]
    alone = [bytes_of(backend.run(handle, work)) for work in works]
    backend.memory.done.clear()
    backend.begin(handle, works[:1])
    backend.begin(handle, works[1:2])
    with backend.memory.current():  # the copying engine is ahead: both inputs are in before either computes
        backend.memory.named(backend._inwards).do()
    assert backend.memory.done == ["in", "in"]
    answers = backend.finish()
    backend.begin(handle, works[2:3])
    answers += backend.finish()
    backend.begin(handle, works[3:])
    answers += backend.finish() + backend.finish()
    assert [bytes_of(answer) for answer in answers] == alone
    with pytest.raises(AssertionError, match="finish one first"):
        for _ in range(3):
            backend.begin(handle, works[:1])


def test_an_urgent_work_and_a_normal_one_of_one_engine_do_not_share_its_memory_at_once() -> None:
    """Both are in flight, on streams of different priority; whichever is waited for, each gets its own answer."""
    backend = FakeTensorRTBackend()
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    works = [{"image": image(2)[i : i + 1]} for i in range(2)]
    alone = [bytes_of(backend.run(handle, work)) for work in works]
    backend.memory.done.clear()
    backend.begin(handle, works[:1])
    backend.begin(handle, works[1:], urgent=True)
    with backend.memory.current():
        backend.memory.named(backend._compute[True]).do()  # the GPU would serve the urgent stream first
    assert backend.memory.done.count("compute") == 2  # the normal one, begun before, had to go first
    assert [bytes_of(answer) for answer in backend.finish() + backend.finish()] == alone


def test_streams_of_urgent_works_are_urgent_ones() -> None:
    backend = FakeTensorRTBackend()
    with backend.memory.current():
        assert {u: backend.memory.named(s).urgent for u, s in backend._compute.items()} == {False: False, True: True}


def test_any_thread_may_load_run_and_unload_since_each_call_brings_the_context() -> None:
    backend = FakeTensorRTBackend()
    own = backend.memory.taken.all()
    with ThreadPoolExecutor(1) as loader, ThreadPoolExecutor(1) as runner:
        handle = loader.submit(backend.load, STORE, Segment(MODEL, 0, 1)).result()
        answers = [runner.submit(backend.run, handle, {"image": image(1)}).result() for _ in range(3)]
        runner.submit(backend.unload, handle).result()
    assert len({answer["add_256"].tobytes() for answer in answers}) == 1
    assert backend.memory.taken.all() == own
    with pytest.raises(EngineError, match="INVALID_CONTEXT"):
        backend.memory.take(1)  # as a call outside would be


def test_works_that_run_together_get_their_own_answers_back() -> None:
    backend = FakeTensorRTBackend()
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    works = [{"image": image(5)[:1]}, {"image": image(5)[1:4]}, {"image": image(5)[4:]}]
    together = backend.run_together(handle, works)
    for work, answer in zip(works, together):
        assert not isinstance(answer, Exception)
        for name, array in backend.run(handle, work).items():
            np.testing.assert_allclose(answer[name], array, rtol=1e-5, atol=1e-5)


def test_more_works_than_one_batch_holds_run_as_several_and_one_that_is_wrong_fails_alone() -> None:
    backend = FakeTensorRTBackend()
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    assert backend.batch_max(handle) == 8
    works = [{"image": image(20)[i : i + 1]} for i in range(20)]
    works[3] = {"image": np.zeros((1, 3, 32, 32), np.float64)}
    works[5] = {"image": image(9)}
    backend.memory.copies.clear()
    together = backend.run_together(handle, works)
    assert [way for way, _ in backend.memory.copies] == ["in"] * 3  # 4, 8 and 6 works
    wrong = {i: str(answer) for i, answer in enumerate(together) if isinstance(answer, Exception)}
    assert sorted(wrong) == [3, 5] and "float64" in wrong[3] and "batch 9" in wrong[5]
    for i in (0, 12, 19):
        answer = together[i]
        assert not isinstance(answer, Exception)
        np.testing.assert_allclose(answer["add_256"], backend.run(handle, works[i])["add_256"], rtol=1e-5, atol=1e-5)


def test_a_batch_that_is_refused_is_run_work_by_work() -> None:
    backend = FakeTensorRTBackend()
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    works = [{"image": image(3)[i : i + 1]} for i in range(3)]
    fake.FAIL_RUNS[:] = [True, False, True, False]  # the batch, and the second of its works
    together = backend.run_together(handle, works)
    fake.FAIL_RUNS.clear()
    assert [isinstance(answer, EngineError) for answer in together] == [False, True, False]
    third = together[2]
    assert not isinstance(third, Exception)
    assert third["add_256"].tobytes() == backend.run(handle, works[2])["add_256"].tobytes()


def test_an_answer_is_not_overwritten_by_the_next_run() -> None:
    backend = FakeTensorRTBackend()
    handle = backend.load(STORE, Segment(MODEL, 0, 1))
    expected = bytes_of(backend.run(handle, {"image": image(1)}))
    kept = [backend.run(handle, {"image": image(1)}) for _ in range(5)]
    backend.run(handle, {"image": image(2)[1:]})
    assert {bytes_of(answer) for answer in kept} == {expected}


def test_a_batch_beyond_the_profile_is_refused_with_the_bounds() -> None:
    backend = FakeTensorRTBackend()
    with pytest.raises(BadInput, match="batch 9; its engine takes 1 to 8"):
        backend.run(backend.load(STORE, Segment(MODEL, 0, 1)), {"image": image(9)})


def test_segments_that_do_not_follow_each_other_are_refused() -> None:
    backend = FakeTensorRTBackend()
    handles = whole_chain(backend)
    with pytest.raises(BadInput, match="expected"):
        backend.run(handles[2], backend.run(handles[0], {"image": image(1)}))
    assert [way for way, _ in backend.memory.copies] == ["in"]


def test_an_engine_that_does_not_fit_and_one_that_is_missing_are_refused_with_the_cure(tmp_path: Path) -> None:
    other = TensorRTBackend(BINDINGS, HostMemory(), DEVICE._replace(tensorrt="8.5.2"))
    folder = with_engines(STORE)
    with pytest.raises(EngineError, match=r"built for TensorRT 10\.3\.0, this device has 8\.5\.2.*engines build"):
        other.load(folder, Segment(MODEL, 0, 1))
    with pytest.raises(EngineError, match="no TensorRT engine in .*--device orin-nano"):
        TensorRTBackend(BINDINGS, HostMemory(), DEVICE).load(STORE, Segment(MODEL, 0, 1))


def test_an_engine_in_int8_is_taken_only_where_there_is_no_other_and_said(tmp_path: Path) -> None:
    folder = tmp_path / MODEL
    shutil.copytree(with_engines(STORE), folder)
    manifest = read_manifest(folder)
    usual = manifest.engines[0]
    small = msgspec.structs.replace(
        usual, precision="int8", flags=("detailed", "int8, ranges by entropy, on 0123456789ab")
    )
    for engines, lines in (((small, usual), 0), ((small,), 1)):
        write_manifest(folder, msgspec.structs.replace(manifest, engines=engines))
        said: List[str] = []
        TensorRTBackend(BINDINGS, HostMemory(), DEVICE, said.append).load(folder, Segment(MODEL, 0, 1))
        assert len(said) == lines and all("runs in INT8" in line and "0123456789ab" in line for line in said)


def test_a_plan_that_is_none_takes_no_memory(tmp_path: Path) -> None:
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
    assert "bytes" not in memory.taken.all()
