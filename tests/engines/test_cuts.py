"""Cutting: whatever the cuts, the chained segments are the uncut model, bit for bit."""

import errno
import json
import random
from pathlib import Path
from typing import List, Tuple

import pytest

from pamdi.cli.main import main
from pamdi.core.errors import EngineError
from pamdi.engines.cuts import cut, group, load_model
from pamdi.engines.digits import load
from pamdi.engines.export import OURS, export
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
from pamdi.engines.verify import compare, run_chain, run_uncut

MODEL = OURS["resnet56"]
FINEST = 59


def identical(folder: Path, pairs: List[Tuple[int, int]]) -> bool:
    backend = OnnxRuntimeBackend(1, "off")
    images = {"image": load("test")[0][:3]}
    return compare(run_chain(backend, folder, pairs, images), run_uncut(backend, MODEL, images)).identical


def test_the_model_has_its_cut_points() -> None:
    assert len(cut(load_model(MODEL)).units) == FINEST


def test_every_single_unit_chained_is_the_uncut_model(tmp_path: Path) -> None:
    export(MODEL, tmp_path, "finest")
    assert identical(tmp_path, [(u, u + 1) for u in range(FINEST)])


@pytest.mark.parametrize("seed", range(10))
def test_a_random_cut_set_chained_is_the_uncut_model(tmp_path: Path, seed: int) -> None:
    drawn = random.Random(seed)
    cuts = [0, *sorted(drawn.sample(range(1, FINEST), drawn.randint(1, 10))), FINEST]
    pairs = list(zip(cuts, cuts[1:]))
    export(MODEL, tmp_path, "random", segments=pairs)
    assert identical(tmp_path, pairs)


def test_a_name_that_the_fleet_could_not_say_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"^model 'my model': use letters, digits, _ \. -"):
        export(MODEL, tmp_path / "out", "my model", units=2)
    assert not (tmp_path / "out").exists()


def test_grouping_keeps_all_nodes_and_balances_arithmetic() -> None:
    finest = cut(load_model(MODEL))
    eight = group(finest, 8)
    assert [n for u in eight.units for n in u.nodes] == [n for u in finest.units for n in u.nodes]
    flops = [unit.flops for unit in eight.units]
    assert max(flops) < 1.5 * min(flops)
    with pytest.raises(EngineError, match="1 to 59"):
        group(finest, 60)


def test_with_optimisation_on_the_difference_stays_small(tmp_path: Path) -> None:
    export(MODEL, tmp_path, "eight", units=8)
    backend = OnnxRuntimeBackend(1, "all")
    images = {"image": load("test")[0][:64]}
    difference = compare(
        run_chain(backend, tmp_path, [(u, u + 1) for u in range(8)], images), run_uncut(backend, MODEL, images)
    )
    assert difference.largest_absolute < 1e-4


def test_files_can_be_read_by_the_service_and_nothing_hidden_is_left(tmp_path: Path) -> None:
    export(MODEL, tmp_path / "store", "m", units=2)
    plain = tmp_path / "plain"
    plain.touch()
    files = {path.name: path for path in (tmp_path / "store").iterdir() if path.is_file()}
    assert set(files) == {"0000-0001.onnx", "0001-0002.onnx", "model.json"}
    objects = [path for path in (tmp_path / "store" / "objects").iterdir() if not path.name.startswith(".")]
    assert {path.stat().st_mode for path in [*files.values(), *objects]} == {plain.stat().st_mode}
    assert {path.stat().st_ino for path in objects} == {files[f"000{u}-000{u + 1}.onnx"].stat().st_ino for u in (0, 1)}


def test_an_export_that_fails_half_way_leaves_the_old_one_as_it_was(tmp_path: Path) -> None:
    export(MODEL, tmp_path, "m", units=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(line: str) -> None:
        if line.startswith("0001"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(EngineError, match="No space left on device: make room"):
        export(MODEL, tmp_path, "m", units=4, progress=full)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("segments", [[(0, 1), (0, 1)], [], [(1, 1)], [(0, 99)], [(0, 1)], [(1, 59)]])
def test_segments_that_cannot_be_are_refused_before_anything_is_written(
    tmp_path: Path, segments: List[Tuple[int, int]]
) -> None:
    with pytest.raises(EngineError, match="segment"):
        export(MODEL, tmp_path / "store", "m", segments=segments)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("segments", "lost"),
    [("0:4,3:9", "0:4,3:9"), ("0:4,5:9", "0:4,5:9"), ("0:4,4:9,2:6", "2:6"), ("0:4,4:8", "0:4,4:8")],
)
def test_segments_that_overlap_or_leave_a_gap_are_one_line_with_those_that_lead_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], segments: str, lost: str
) -> None:
    command = ["engines", "export", str(MODEL), "--out", str(tmp_path / "m"), "--units", "9", "--segments", segments]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert said == (
        f"pamdi: segments {segments}: no way from unit 0 to 9 goes through {lost}: let each begin where another ends\n"
    )


def test_segments_that_are_alternatives_to_each_other_are_candidates(tmp_path: Path) -> None:
    manifest = export(MODEL, tmp_path, "m", 3, [(0, 1), (1, 3), (0, 2), (2, 3), (0, 3)])
    assert len(manifest.segments) == 5


def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL.read_bytes()[:10_000])
    for bad in (path, tmp_path / "absent.onnx"):
        with pytest.raises(EngineError) as error:
            load_model(bad)
        assert "\n" not in str(error.value)


def test_the_commands_cut_export_verify_and_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "mine")
    assert main(["engines", "cut", "resnet56", "--units", "4"]) == 0
    assert main(["engines", "export", "resnet56", "--out", store, "--units", "4"]) == 0
    assert main(["engines", "verify", store]) == 0
    assert main(["engines", "list", store]) == 0
    out = capsys.readouterr().out
    assert "optimisation off: 4 chained segments are bit for bit the uncut model" in out
    (tmp_path / "mine" / "0000-0001.onnx").write_bytes(b"")
    assert main(["engines", "list", store]) == 1
    assert main(["engines", "verify", store]) == 1
    assert "altered or cut short" in capsys.readouterr().err


def test_verify_draws_cut_sets_and_says_of_each_whether_it_is_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "mine")
    assert main(["engines", "export", "resnet56", "--out", store, "--units", "3"]) == 0
    capsys.readouterr()
    assert main(["engines", "verify", store, "--random", "2", "--json"]) == 0
    sets = json.loads(capsys.readouterr().out)["runs"][2:]
    assert [(one["cut_set"], one["identical"]) for one in sets] == [
        ("every unit", True), ("random set 0", True), ("random set 1", True),
    ]  # fmt: skip
    assert sets[0]["segments"] == FINEST


def test_a_command_that_cannot_be_obeyed_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["engines", "cut", "absent.onnx"],
        ["engines", "export", "resnet56", "--out", "/proc/nowhere"],
        ["engines", "export", "resnet56", "--out", str(tmp_path), "--segments", "3-4"],
        ["engines", "list", str(tmp_path)],
    ):
        assert main(words) == 1
        assert capsys.readouterr().err.count("\n") <= 1 + ("--segments" in words)
