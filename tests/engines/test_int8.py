"""INT8: ranges are chosen by entropy, so that one freak value does not cost all others their resolution."""

from pathlib import Path

import numpy as np
import pytest

from pamdi.engines.digits import load

onnx = pytest.importorskip("onnx", reason="graphs are quantised with it")
pytest.importorskip("onnxruntime", reason="it calibrates")

from pamdi.engines.entropy import BINS, Histograms, best_bins  # noqa: E402
from pamdi.engines.int8 import to_int8  # noqa: E402

FIRST_UNIT = Path(__file__).parent / "store" / "resnet56-digits" / "0000-0001.onnx"
FREAK = 100.0  # times the largest value of an image


def test_a_freak_value_among_the_inputs_does_not_set_the_range(tmp_path: Path) -> None:
    images = load("test")[0][:32].copy()
    usual = float(np.abs(images).max())
    images[7, 0, 0, 0] = FREAK * usual
    kept = to_int8(FIRST_UNIT, tmp_path / "q.onnx", {"image": images})
    model = onnx.load(str(tmp_path / "q.onnx"))
    values = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    (scale,) = [
        float(values[n.input[1]]) for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "image"
    ]
    zeros = [values[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert len(kept) == 15 and not np.any(zeros)
    assert usual / 4 < 127 * scale < FREAK * usual / 4  # not the freak's


def test_a_range_holds_nearly_all_of_what_is_spread_evenly_and_leaves_out_a_long_tail() -> None:
    even = np.full(BINS, 1000)
    normal = np.random.default_rng(0).standard_normal(200_000)
    counts, edges = np.histogram(np.abs(normal), BINS, range=(0, 50.0))  # one freak at 50 sigma
    counts[-1] += 1
    assert best_bins(even) > 0.95 * BINS
    assert 2.0 < edges[best_bins(counts)] < 5.0


def test_ranges_are_those_of_all_examples_and_what_is_always_zero_has_none() -> None:
    found = Histograms()
    steps = [{"x": np.array([1.0, -3.0], np.float32), "zero": np.zeros(2, np.float32)}, {"x": np.array([2.0, 0.5])}]
    for look in (found.widen, found.count):
        for values in steps:
            look({name: np.asarray(array) for name, array in values.items()})
    assert set(found.ranges()) == {"x"} and 0 < found.ranges()["x"] <= 3.0
