"""A model's folder in FP16: half the bytes travel, the digits are still read, and what was lost is on record."""

from pathlib import Path

import numpy as np
import pytest

from pamdi.core.errors import EngineError
from pamdi.engines.digits import load
from pamdi.engines.half_store import halve_folder, read_about
from pamdi.engines.manifest import read_manifest
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
from pamdi.engines.verify import covering_chain, run_chain

STORE = Path(__file__).parent / "store" / "resnet56-digits"


def test_a_halved_model_moves_half_the_bytes_and_reads_the_same_digits(tmp_path: Path) -> None:
    full, half = read_manifest(STORE), halve_folder(STORE, tmp_path / "h", "digits-half")
    assert half.bytes[1:4] == tuple(count // 2 for count in full.bytes[1:4])
    assert (half.bytes[0], half.bytes[4]) == (full.bytes[0], full.bytes[4])  # the ends stay float32
    backend, images = OnnxRuntimeBackend(1, "all"), load("test")[0][:64]
    answers = [
        run_chain(backend, folder, covering_chain(full), {"image": images})["logits"]
        for folder in (STORE, tmp_path / "h")
    ]
    assert answers[1].dtype == np.float32
    assert answers[0].argmax(1).tolist() == answers[1].argmax(1).tolist()


def test_the_ends_are_halved_too_where_asked(tmp_path: Path) -> None:
    half = halve_folder(STORE, tmp_path, "h", float_ends=False)
    assert (half.boundaries[0][0].dtype, half.boundaries[-1][0].dtype) == ("float16", "float16")


def test_what_was_kept_and_lost_is_on_record_and_printed_per_segment(tmp_path: Path) -> None:
    lines: "list[str]" = []
    halve_folder(STORE, tmp_path, "h", progress=lines.append)
    about = read_about(tmp_path, read_manifest(tmp_path))
    assert about is not None and about.source_sha256 == read_manifest(STORE).source_sha256
    assert [len(segment.kept) for segment in about.segments] == [0, 0, 0, 1]
    for segment in about.segments:
        assert segment.max_abs_error is not None and segment.largest is not None
        assert 0 < segment.max_abs_error < 0.02 * segment.largest
    assert lines[3].startswith("3:4: error ") and "ReduceMean" in lines[3]


def test_the_float32_folder_is_never_overwritten() -> None:
    with pytest.raises(EngineError, match="choose another with --out"):
        halve_folder(STORE, STORE, "h")
