"""Reading a model without its weights: every weight is where the file has it, and a damaged file is one line."""

import random
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from pamdi.core.errors import EngineError
from pamdi.engines.export import OURS
from pamdi.engines.onnx_file import LARGE_BYTES, model_digest, read_onnx

GPT2 = Path(__file__).parent / "graphs" / "gpt2-tiny.onnx"


@pytest.mark.parametrize("path", [OURS["resnet56"], GPT2])
def test_the_graph_and_the_weights_are_those_of_the_file(path: Path) -> None:
    whole, read = onnx.load(path), read_onnx(path)
    assert list(read.proto.graph.node) == list(whole.graph.node)
    large = {t.name: t.raw_data for t in whole.graph.initializer if len(t.raw_data) >= LARGE_BYTES}
    assert {name: piece.bytes() for name, piece in read.weights.items()} == large
    small = {t.name: numpy_helper.to_array(t).tobytes() for t in read.proto.graph.initializer if t.name not in large}
    assert small == {t.name: t.raw_data for t in whole.graph.initializer if t.name not in large}
    assert read.proto.ByteSize() < 60_000


def test_weights_beside_the_model_are_found_and_those_elsewhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(onnx.load(GPT2), path, save_as_external_data=True, location="m.data", size_threshold=LARGE_BYTES)
    assert {n: w.bytes() for n, w in read_onnx(path).weights.items()} == {
        n: w.bytes() for n, w in read_onnx(GPT2).weights.items()
    }
    before = model_digest(path)
    with open(tmp_path / "m.data", "r+b") as file:
        file.write(b"altered")
    assert model_digest(path) != before
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../m.data" if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match=r"lies outside its folder \('../m.data'\)"):
        read_onnx(path)


def test_a_file_cut_anywhere_is_refused_in_one_line(tmp_path: Path) -> None:
    data, drawn = GPT2.read_bytes(), random.Random(1)
    for size in [0, 1, len(data) - 1, *(drawn.randrange(len(data)) for _ in range(60))]:
        (tmp_path / "m.onnx").write_bytes(data[:size])
        with pytest.raises(EngineError, match="m.onnx: ") as error:
            read_onnx(tmp_path / "m.onnx")
        assert "\n" not in str(error.value)


def test_bytes_that_are_no_model_end_in_one_line_or_in_a_model(tmp_path: Path) -> None:
    data, drawn = GPT2.read_bytes(), random.Random(2)
    for _ in range(100):
        changed = bytearray(data)
        changed[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
        (tmp_path / "m.onnx").write_bytes(changed)
        try:
            read_onnx(tmp_path / "m.onnx")
        except EngineError as error:
            assert "\n" not in str(error)
