"""Comparing two runs: whatever is not agreement must look like difference. And finding a chain among the segments."""

import json
from pathlib import Path
from typing import List, Tuple

import numpy as np
import pytest

from pamdi.cli.main import main
from pamdi.core.errors import EngineError
from pamdi.engines import verify
from pamdi.engines.digits import load
from pamdi.engines.export import OURS
from pamdi.engines.manifest import Manifest, SegmentInfo, UnitInfo
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
from pamdi.engines.verify import TOLERANCE, Difference, compare, covering_chain

STORE = Path(__file__).parent / "store" / "resnet56-digits"
NAN, INF = float("nan"), float("inf")


def outputs(*values: float) -> "dict[str, np.ndarray]":
    return {"y": np.array(values, np.float32)}


@pytest.mark.parametrize(
    ("chained", "uncut", "difference"),
    [
        (outputs(1.0, -2.0), outputs(1.0, -2.0), Difference(0.0, 0.0, True)),
        (outputs(NAN, INF), outputs(NAN, INF), Difference(0.0, 0.0, True)),
        (outputs(1.0, 6.0), outputs(1.0, 4.0), Difference(2.0, 0.5, False, 0.5)),
        (outputs(1.0, 8.0), outputs(2.0, 8.0), Difference(1.0, 0.5, False, 0.125)),
        (outputs(0.0), outputs(-0.0), Difference(0.0, 0.0, False)),
        (outputs(NAN, 1.0), outputs(1.0, 1.0), Difference(INF, INF, False, INF)),
        (outputs(INF), outputs(-INF), Difference(INF, INF, False, INF)),
        (outputs(1.0), outputs(1.0, 1.0), Difference(INF, INF, False, INF)),
        ({}, outputs(1.0), Difference(INF, INF, False, INF)),
    ],
)
def test_only_agreement_looks_like_agreement(
    chained: "dict[str, np.ndarray]", uncut: "dict[str, np.ndarray]", difference: Difference
) -> None:
    assert compare(chained, uncut) == difference


def manifest(units: int, pairs: List[Tuple[int, int]]) -> Manifest:
    segments = tuple(SegmentInfo(first, stop, "f", "0", (), ()) for first, stop in pairs)
    return Manifest("m", "0", (), (UnitInfo("u", 0, 0, 0),) * units, segments)


@pytest.mark.parametrize(
    ("pairs", "chain"),
    [
        ([(0, 1), (1, 2), (2, 3), (0, 3)], [(0, 1), (1, 2), (2, 3)]),
        ([(0, 1), (0, 2), (2, 3)], [(0, 2), (2, 3)]),  # the shortest first segment leads nowhere
    ],
)
def test_a_chain_is_found_wherever_there_is_one(pairs: List[Tuple[int, int]], chain: List[Tuple[int, int]]) -> None:
    assert covering_chain(manifest(3, pairs)) == chain


def test_a_gap_is_named() -> None:
    with pytest.raises(EngineError, match="no segments lead on from unit 1"):
        covering_chain(manifest(3, [(0, 1), (2, 3)]))


def test_the_kept_model_reads_the_digits_as_its_readme_says() -> None:
    images, labels = load("test")
    logits = OnnxRuntimeBackend(1, "off").session(OURS["resnet56"]).run(["logits"], {"image": images})[0]
    right = int((logits.argmax(1) == labels).sum())
    assert f"{right} of {len(labels)} test images" in (OURS["resnet56"].parent / "README.md").read_text()
    assert right / len(labels) >= 0.97


def test_what_is_kept_names_no_machine() -> None:
    for path in [OURS["resnet56"], *STORE.iterdir()]:
        assert not [
            word for word in (b"site-packages", b"/home/", b"Traceback", b'File "') if word in path.read_bytes()
        ]


def test_inputs_that_cannot_be_read_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.npz").write_text("not numpy")
    (tmp_path / "zip.npz").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name in ("text.npz", "zip.npz", "empty.npz", "one.npy", "absent.npz"):
        assert main(["engines", "verify", str(STORE), "--inputs", str(tmp_path / name)]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"pamdi: {tmp_path / name}: ") and said.count("\n") == 1


def test_verify_on_real_digits_prints_one_json_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "digits.npz", image=load("test")[0][:16])
    assert main(["engines", "verify", str(STORE), "--json", "--inputs", str(tmp_path / "digits.npz")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["runs"][0] == {
        "optimisation": "off", "largest_absolute": 0.0, "largest_relative": 0.0, "identical": True, "of_largest": 0.0,
    }  # fmt: skip
    assert 0.0 <= said["runs"][1]["of_largest"] <= TOLERANCE


def test_verify_fails_beyond_the_tolerance(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(verify, "TOLERANCE", -1.0)
    assert main(["engines", "verify", str(STORE)]) == 1
    assert "BEYOND the tolerance" in capsys.readouterr().out


@pytest.mark.parametrize("ends", ["float32", "float16"])
def test_an_fp16_folder_is_held_against_an_fp16_tolerance_whose_source_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ends: str
) -> None:
    pytest.importorskip("onnx", reason="halving needs it")
    half = str(tmp_path / "half")
    assert main(["engines", "half", str(STORE), "--out", half, "--ends", ends]) == 0
    capsys.readouterr()
    assert main(["engines", "verify", half]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("within the FP16 tolerance: ") and "for 142 operators: Higham, Mary 2019" in last
    assert main(["engines", "verify", half, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["precision"] == "fp16" and TOLERANCE < said["tolerance"] < 0.03
    assert all(1e-5 < run["of_largest"] < said["tolerance"] for run in said["runs"])


def test_an_fp16_folder_beyond_its_tolerance_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx", reason="halving needs it")
    assert main(["engines", "half", str(STORE), "--out", str(tmp_path / "half")]) == 0
    monkeypatch.setattr(verify, "FP16_LAMBDA", 0.01)
    assert main(["engines", "verify", str(tmp_path / "half")]) == 1


def test_an_altered_half_json_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx", reason="halving needs it")
    assert main(["engines", "half", str(STORE), "--out", str(tmp_path / "half")]) == 0
    path = tmp_path / "half" / "half.json"
    text = path.read_text()
    path.unlink()
    path.write_text(text + " ")
    capsys.readouterr()
    assert main(["engines", "verify", str(tmp_path / "half")]) == 1
    assert capsys.readouterr().err.startswith(f"pamdi: {path}: altered or cut short")
