"""Models that torch exports: the ONNX file is the network that transformers runs, and its cuts are single tensors.

Needs the extra ``models``; without torch the recorded GPT-2 (``graphs/``) is cut all the same, in test_graphs.
"""

import json
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

from pamdi.cli.main import main
from pamdi.core.errors import EngineError
from pamdi.engines.export import export
from pamdi.engines.named_models import Making, model_path
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend

torch = pytest.importorskip("torch", reason="needs the extra `models`: pip install 'pamdi[models]'")
transformers = pytest.importorskip("transformers", reason="needs the extra `models`: pip install 'pamdi[models]'")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("directories") / "tiny-gpt2"
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=101, n_positions=32)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("directories") / "tiny-resnet"
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic", num_labels=5
    )
    transformers.ResNetForImageClassification(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"crop_size": {"height": 32, "width": 32}}))
    return folder


def outputs(path: Path, name: str, array: "np.ndarray") -> Any:
    return OnnxRuntimeBackend(1, "off").session(path).run(["logits"], {name: array})[0]


def test_gpt2_gives_the_logits_of_the_last_token_and_no_other(gpt2: Path, tmp_path: Path) -> None:
    path = model_path(str(gpt2), Making(tmp_path, sequence=16))
    ids = np.random.default_rng(0).integers(0, 101, (3, 16), dtype=np.int64)
    with torch.no_grad():
        whole = transformers.GPT2LMHeadModel.from_pretrained(gpt2).eval()(torch.from_numpy(ids)).logits
    np.testing.assert_allclose(outputs(path, "input_ids", ids), whole[:, -1].numpy(), atol=1e-5)


def test_resnet_takes_images_of_the_size_that_its_preprocessor_makes(resnet: Path, tmp_path: Path) -> None:
    path = model_path(str(resnet), Making(tmp_path))
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        whole = transformers.ResNetForImageClassification.from_pretrained(resnet).eval()(torch.from_numpy(images))
    np.testing.assert_allclose(outputs(path, "image", images), whole.logits.numpy(), atol=1e-5)


def test_it_is_made_once_whole_and_names_no_machine(gpt2: Path, tmp_path: Path) -> None:
    said: List[str] = []
    making = Making(tmp_path, sequence=8, say=said.append)
    first = model_path(str(gpt2), making)
    before = first.stat()
    assert model_path(str(gpt2), making) == first and first.stat().st_mtime_ns == before.st_mtime_ns
    assert said[-1] == f"tiny-gpt2: taken from {first}"
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    assert [word for word in (b"site-packages", b"/home/", b'File "') if word in first.read_bytes()] == []
    assert model_path(str(gpt2), making._replace(sequence=9)) != first


def test_what_one_file_cannot_hold_is_exported_with_its_weights_beside_it(
    gpt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pamdi.engines.torch_export.INLINE_BYTES_MAX", 10_000)
    path = model_path(str(gpt2), Making(tmp_path / "cache", sequence=8))
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.data"}
    export(path, tmp_path / "m", "m")
    assert main(["engines", "verify", str(tmp_path / "m"), "--cache", str(path.parent)]) == 0


def test_weights_that_lack_are_refused_not_drawn(gpt2: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "part"
    folder.mkdir()
    (folder / "config.json").write_bytes((gpt2 / "config.json").read_bytes())
    weights = load_file(gpt2 / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match=r"1 weights are missing, transformer.h.1.mlp.c_fc.weight first"):
        model_path(str(folder), Making(tmp_path / "cache"))
    (folder / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(EngineError, match=r"weights cannot be loaded") as error:
        model_path(str(folder), Making(tmp_path / "cache"))
    assert "\n" not in str(error.value) and not (tmp_path / "cache").exists()


def test_a_sequence_that_the_model_cannot_take_is_refused(gpt2: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="--sequence 33: this model takes 1 to 32 tokens"):
        model_path(str(gpt2), Making(tmp_path, sequence=33))


def test_from_a_directory_to_verified_segments(gpt2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "store" / "tiny"
    assert main(["engines", "export", str(gpt2), "--out", str(out), "--sequence", "8", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["segments"] == told["units"] > 4
    assert main(["engines", "verify", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["identical"]
