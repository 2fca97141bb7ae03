"""Arithmetic against published figures, so that an allocation is made of numbers that mean something."""

import json
from pathlib import Path

import onnx
import pytest

from pamdi.cli.main import main
from pamdi.engines.cuts import cut, load_model
from pamdi.engines.export import OURS

ZOO = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.mark.parametrize(
    ("name", "billion_multiply_adds"),  # torchvision's tables, and the SqueezeNet paper's model at 224 x 224
    [("resnet50", 4.09), ("vgg19", 19.63), ("densenet121", 2.83), ("squeezenet", 0.35)],
)
def test_models_of_the_zoo_have_their_published_arithmetic(name: str, billion_multiply_adds: float) -> None:
    path = ZOO / f"light_{name}.onnx"
    if not path.exists():
        pytest.skip("this onnx ships no zoo graphs")
    counted = sum(unit.flops for unit in cut(load_model(path)).units) / 2e9
    assert counted == pytest.approx(billion_multiply_adds, rel=0.02)


def test_resnet56_has_the_125_million_multiply_adds_of_its_paper() -> None:
    assert sum(unit.flops for unit in cut(load_model(OURS["resnet56"])).units) / 2e6 == pytest.approx(125.5, rel=0.01)


def test_gpt2_counts_every_token_though_its_batch_and_tokens_are_one_axis() -> None:
    units = cut(load_model(Path(__file__).parent / "graphs" / "gpt2-tiny.onnx")).units
    layers, width, tokens, vocabulary = 2, 16, 16, 101
    weights = layers * 12 * width * width
    attention = layers * 2 * tokens * tokens * width
    products = 2 * (weights * tokens + attention + width * vocabulary)
    assert products < sum(unit.flops for unit in units) < 1.35 * products  # the rest: norms, activations, softmax


def test_cut_shows_bytes_in_both_precisions_and_marks_what_costs_more_than_the_input(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["engines", "cut", "resnet56", "--units", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    figures = [(u["bytes_in"], u["bytes_in_fp16"], u["wider_than_input"], u["tensors_in"]) for u in told["units"]]
    assert figures == [
        (12288, 6144, False, 1),
        (65536, 32768, True, 1),
        (32768, 16384, True, 1),
        (16384, 8192, True, 1),
    ]
    assert (told["bytes_out"], told["bytes_out_fp16"]) == (40, 20)
    assert main(["engines", "cut", "resnet56", "--units", "4"]) == 0
    said = capsys.readouterr().out
    assert said.count("costs more than the input\n") == 3
    assert said.endswith(
        "0.25 GFLOP; 40 bytes out (20 in FP16); bytes are for one input; 3 of 3 cuts cost more than the input\n"
    )


def test_whole_numbers_are_not_halved_in_fp16(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parent / "graphs" / "gpt2-tiny.onnx"
    assert main(["engines", "cut", str(path), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["units"][0]
    assert (first["bytes_in"], first["bytes_in_fp16"]) == (128, 128)
