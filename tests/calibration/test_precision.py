"""Lower precisions against FP32 on the network that ships: how far off, and what cannot be compared."""

import logging
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pamdi.calibration.precision import Error, Sample, compare_precisions, error_between, sample_of
from pamdi.core.errors import EngineError
from pamdi.engines.digits import load
from pamdi.engines.export import export
from tests.daemon.running import MODEL, STORE

FOLDER = STORE / MODEL
SILENT = print


def digits(count: int) -> Sample:
    images, labels = load("test")
    return Sample({"image": images[:count]}, labels[:count], "digits")


def test_fp16_is_close_and_int8_is_further_off_and_only_made_when_asked_for() -> None:
    (half,) = compare_precisions(FOLDER, digits(24), ["fp16"], SILENT)
    assert [(first, stop) for first, stop, _ in half.segments] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert all(1e-6 < error.relative_rms < 2e-3 for _, _, error in half.segments)
    assert 1e-6 < half.chain.relative_rms < 4e-3 and half.chain.top1_changed == 0
    assert (half.precision, half.inputs, half.accuracy, half.accuracy_fp32) == ("fp16", 24, 22 / 24, 22 / 24)
    _, eight = compare_precisions(FOLDER, digits(24), ["fp16", "int8"], SILENT)
    assert eight.inputs == 12  # the other half has calibrated it
    assert 5 * half.chain.relative_rms < eight.chain.relative_rms < 0.5


def test_a_tensor_that_goes_around_a_segment_reaches_the_one_that_reads_it(tmp_path: Path) -> None:
    """x -> a -> r = relu(a @ w) -> y = r + a: ``a`` passes the product and the relu by."""
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32)[::-1].copy() * 0.3, "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Relu", ["b"], ["r"]), helper.make_node("Add", ["r", "a"], ["y"]),
    ]  # fmt: skip
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "around", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    manifest = export(tmp_path / "m.onnx", tmp_path / "around", "around")
    assert any(len(boundary) == 2 for boundary in manifest.boundaries)
    inputs = Sample({"x": np.random.default_rng(0).random((64, 4), dtype=np.float32)}, None, "given")
    for result in compare_precisions(tmp_path / "around", inputs, ["fp16", "int8"], SILENT):
        assert len(result.segments) == len(manifest.units)
        assert result.chain.relative_rms < 0.1


def test_making_int8_says_nothing_but_what_we_say(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    lines: "list[str]" = []
    compare_precisions(FOLDER, digits(4), ["int8"], lines.append)
    said = capfd.readouterr()
    assert (said.out, said.err, caplog.records) == ("", "", [])
    assert lines[0] == "int8: segment 0:1\n  kept in fp32: all but convolutions and matrix products"
    logging.getLogger().warning("others are heard again")
    assert len(caplog.records) == 1


def test_a_converted_segment_that_is_damaged_on_disk_is_refused(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / MODEL)
    with (tmp_path / MODEL / "0001-0002.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(EngineError, match="altered or cut short"):
        compare_precisions(tmp_path / MODEL, digits(2), ["fp16"], SILENT)


def test_differences_are_over_all_tensors_and_a_lost_number_is_infinitely_wrong() -> None:
    exact = {"y": np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)}
    lower = {"y": np.array([[3.0, 4.5], [0.5, 0.0]], np.float16)}
    assert error_between(lower, exact, scores=True) == Error(0.5, (0.5 / 25) ** 0.5, 0)
    swapped = {"y": np.array([[4.0, 3.0], [0.0, 0.0]], np.float16)}
    assert error_between(swapped, exact, scores=True).top1_changed == 1
    assert error_between({"y": np.full_like(lower["y"], np.inf)}, exact) == Error(float("inf"), float("inf"))


def test_inputs_from_a_file_must_fit_the_model(tmp_path: Path) -> None:
    images, labels = load("test")
    file = tmp_path / "inputs.npz"
    np.savez(file, image=images[:3], labels=labels[:3])
    sample = sample_of(FOLDER, file, True)
    assert (sample.size, sample.labels is not None, sample.what) == (3, True, "inputs.npz")
    assert sample_of(FOLDER, file, False).labels is None
    cases = [({"image": images[:3]}, "no array `labels`"), ({"x": images[:3], "labels": labels[:3]}, "model takes"),
             ({"image": images[:3], "labels": labels[:2]}, "different or no lengths")]  # fmt: skip
    for arrays, words in cases:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes names for its options
        with pytest.raises(EngineError) as refusal:
            sample_of(FOLDER, file, True)
        assert words.replace("model takes", "takes ['image']") in str(refusal.value)
    file.write_bytes(b"no zip")
    with pytest.raises(EngineError, match="not an .npz file"):
        sample_of(FOLDER, file, True)
