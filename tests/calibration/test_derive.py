"""Tables made of published figures: one sustained rate, and everything said about where it comes from."""

import pytest

from pamdi.calibration.derive import SIZES, derive
from pamdi.calibration.published import FIGURES, Figure
from pamdi.calibration.table import check_table, unit_seconds
from pamdi.core.errors import EngineError
from pamdi.engines.manifest import Manifest, TensorInfo, UnitInfo

FIGURE = Figure("big", 0.030, "fp16", "tensorrt", "unavailable", "https://example.org/figures", "big takes 30 ms")


def manifest(id: str, *flops: int) -> Manifest:
    tensor = TensorInfo("x", "float32", ("batch", 4))
    units = tuple(UnitInfo(f"u{number}", 16, 100, count) for number, count in enumerate(flops))
    return Manifest(id, "0" * 64, (tensor,), units, (), (), ((tensor,),) * (len(flops) + 1))


def test_a_unit_takes_its_share_of_the_published_time_and_other_models_the_same_rate() -> None:
    table = derive("board", FIGURE, [manifest("small", 1000), manifest("big", 20_000, 10_000, 0)], "2026-11-25")
    check_table(table, "board.toml")
    big, small = table.model
    assert [round(seconds, 9) for seconds in unit_seconds(big)] == [0.02, 0.01, 1e-6]
    assert [round(seconds, 9) for seconds in unit_seconds(small)] == [0.001]
    assert {(model.measured, model.source) for model in table.model} == {(False, FIGURE.source)}
    assert big.derived == f"big takes 30 ms; distributed over units by FLOPs; {SIZES}"
    assert small.derived == f"big takes 30 ms; this model by its FLOPs at the same sustained 1e+06 FLOP/s; {SIZES}"


def test_without_the_published_model_there_is_no_rate() -> None:
    with pytest.raises(EngineError, match="its figure is of big: export that too"):
        derive("board", FIGURE, [manifest("small", 1000)], "2026-11-25")


def test_every_figure_says_where_it_was_published() -> None:
    assert all(figure.source.startswith("https://") and figure.said for figure in FIGURES.values())
    assert {type: figure.seconds for type, figure in FIGURES.items()} == {"jetson-nano": 0.0298, "agx-xavier": 0.00337}


GFLOPS = {18: 1.814, 50: 4.089, 101: 7.801, 152: 11.514}  # multiply-adds as torchvision's documentation gives them
OTHERS = {  # of the same two pages as our figures: milliseconds
    "jetson-nano": {18: 11.4, 101: 51.1, 152: 72.3},
    "agx-xavier": {18: 1.64, 101: 6.04, 152: 8.57},
}


def test_the_publishers_other_networks_come_out_within_17_percent() -> None:
    for type, others in OTHERS.items():
        for depth, published_ms in others.items():
            derived_ms = FIGURES[type].seconds * 1e3 * GFLOPS[depth] / GFLOPS[50]
            assert abs(derived_ms / published_ms - 1) < 0.17, (type, depth)
