"""controller.toml: every mistake is one line that says what, where, and how to mend it."""

import shutil
from pathlib import Path
from typing import Any, Dict

import msgspec
import pytest

from pamdi.calibration.table import Chain, ModelTable, Run, Table
from pamdi.calibration.table_file import write_merged
from pamdi.controller.config import WatchedConfig, read_config
from pamdi.controller.documents import _resident
from pamdi.core.errors import PamdiError
from pamdi.engines.manifest import read_manifest

STORE = Path(__file__).parents[1] / "engines" / "store" / "resnet56-digits"
GOOD = """
policy = "pa-mdi"
[[model]]
id = "resnet56-digits"
dir = "resnet56-digits"
seconds = { board = [0.01, 0.01, 0.01, 0.01] }
[[source]]
id = "gate"
model = "resnet56-digits"
device = "d0"
gamma = 10.0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(STORE, tmp_path / "resnet56-digits")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "controller.toml"
    path.write_text(text)
    return path


def test_the_models_costs_come_from_its_manifest(folder: Path) -> None:
    _, wanted = read_config(write(folder, GOOD))
    model = wanted.models["resnet56-digits"]
    assert len(model.units) == 4 and len(model.bytes) == 5
    assert model.bytes[0] == 3 * 32 * 32 * 4
    assert set(wanted.digests) == {("resnet56-digits", u) for u in range(4)}


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("gamma = 10.0", "gama = 10.0", "gama"),
        ("gamma = 10.0", "gamma = -1.0", "source gate: gamma must be positive"),
        ('policy = "pa-mdi"', 'policy = "pa-midi"', "pa-midi"),
        ('policy = "pa-mdi"', "settle_s = -1.0", "settle_s is -1.0"),
        ('policy = "pa-mdi"', 'residents = "some"', "one of plan, all"),
        ('dir = "resnet56-digits"', 'dir = "nowhere"', "nowhere"),
        ('id = "resnet56-digits"', 'id = "other"', "other"),
        ("[0.01, 0.01, 0.01, 0.01]", "[0.01]", "seconds of board must be 4 positive numbers"),
        ("[[source]]", "batch_seconds = { board = { 4 = [0.01] } }\n[[source]]", "batch_seconds of board, batch 4"),
        ("[[source]]", "batch_seconds.board.1 = [1.0, 1.0, 1.0, 1.0]\n[[source]]", "batch 1: batches from 2"),
        ('model = "resnet56-digits"\ndevice', 'model = "resnet"\ndevice', "no model 'resnet'"),
        ('device = "d0"', 'device = "d 0"', "'d 0' is not an id"),
        ("[[source]]", "[[source]", "controller.toml"),
        ('policy = "pa-mdi"', "slow_factor = 1.1", "1 <= normal_factor <= slow_factor"),
        ('policy = "pa-mdi"', "slow_delay_s = 0.0", "slow_delay_s is 0.0: it must be positive"),
        ('policy = "pa-mdi"', "link_slow_factor = 1.1", "1 <= normal_factor <= link_slow_factor"),
        ('policy = "pa-mdi"', "link_slow_delay_s = 0.0", "link_slow_delay_s is 0.0: it must be positive"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(folder: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(PamdiError) as caught:
        read_config(write(folder, GOOD.replace(old, new, 1)))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def calibrated(folder: Path, **changed: Any) -> ModelTable:
    manifest = read_manifest(folder / "resnet56-digits")
    model = ModelTable(
        id="resnet56-digits", measured=True, source="measured", date="2026-11-25", backend="stub 1 on none",
        precision="none", units=[unit.name for unit in manifest.units], bytes=list(manifest.bytes),
        memory=[unit.memory_bytes for unit in manifest.units],
        runs=[Run(u, u + 1, 1, 0.01 * (u + 1), 0.01, 0.05, 50) for u in range(4)],
        chains=[Chain(1, 0.1, 0.09, 0.11, 50)], source_sha256=manifest.source_sha256,
    )  # fmt: skip
    return msgspec.structs.replace(model, **changed)


def with_table(folder: Path, place: str, type: str = "board", mode: str = "2 MODE_15W", **changed: Any) -> Path:
    """A table as `pamdi calibrate latency` writes it, and a controller.toml that names ``place``."""
    write_merged(
        folder / "tables" / f"{type}.toml", Table(type, power_mode=mode, model=[calibrated(folder, **changed)])
    )
    return write(folder, GOOD.replace("seconds = { board = [0.01, 0.01, 0.01, 0.01] }", f'table = "{place}"'))


@pytest.mark.parametrize("place", ["tables", "tables/board.toml"])
def test_seconds_come_from_a_table_or_a_folder_of_tables_beside_the_file(folder: Path, place: str) -> None:
    _, wanted = read_config(with_table(folder, place))
    assert wanted.models["resnet56-digits"].seconds == {"board": [0.01, 0.02, 0.03, 0.04]}
    assert wanted.power_modes == {("resnet56-digits", "board"): "2 MODE_15W"}


def test_the_seconds_of_batches_come_from_the_table_and_what_is_written_goes_before_it(folder: Path) -> None:
    singles = calibrated(folder)
    four = [Run(u, u + 1, 4, 0.02 * (u + 1), 0.01, 0.1, 50) for u in range(4)]
    batches: Dict[str, Any] = {"runs": [*singles.runs, *four], "chains": [*singles.chains, Chain(4, 0.2, 0.1, 0.3, 50)]}
    path = with_table(folder, "tables", **batches)
    _, wanted = read_config(path)
    assert wanted.models["resnet56-digits"].batch_seconds == {"board": {"4": [0.02, 0.04, 0.06, 0.08]}}
    assert _resident(wanted, ("resnet56-digits", 2), "board").batch_seconds == ((4, 0.06),)
    mine = 'table = "tables"\nbatch_seconds = { board = { 8 = [1.0, 1.0, 1.0, 1.0] } }'
    _, wanted = read_config(write(folder, path.read_text().replace('table = "tables"', mine)))
    assert wanted.models["resnet56-digits"].batch_seconds == {"board": {"8": [1.0, 1.0, 1.0, 1.0]}}


def test_a_folder_has_a_table_for_each_device_type(folder: Path) -> None:
    with_table(folder, "tables", "other", "unavailable")
    _, wanted = read_config(with_table(folder, "tables"))
    assert sorted(wanted.models["resnet56-digits"].seconds) == ["board", "other"]
    assert list(wanted.power_modes) == [("resnet56-digits", "board")]


@pytest.mark.parametrize(
    "place, changed, says",
    [
        ("nowhere.toml", {}, "nowhere.toml"),
        ("tables", {"source_sha256": "f" * 64}, "board was measured with another resnet56-digits (ffffffffffff, "),
        ("tables", {"id": "resnet50"}, "has resnet50: measure it"),
        ("tables", {"bytes": [1, 2, 3, 4, 5]}, "calibrate that folder"),
    ],
)
def test_a_table_that_is_not_of_this_model_is_one_line(
    folder: Path, place: str, changed: Dict[str, Any], says: str
) -> None:
    with pytest.raises(PamdiError) as caught:
        read_config(with_table(folder, place, **changed))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_under_another_device_types_name_is_one_line(folder: Path) -> None:
    path = with_table(folder, "tables")
    (folder / "tables" / "board.toml").rename(folder / "tables" / "orin.toml")
    with pytest.raises(PamdiError, match=r"device_type is 'board': rename the file to board.toml"):
        read_config(path)


def test_a_table_and_seconds_are_one_too_many(folder: Path) -> None:
    path = with_table(folder, "tables")
    path.write_text(path.read_text().replace("[[source]]", "[model.seconds]\nboard = [1, 1, 1, 1]\n[[source]]"))
    with pytest.raises(PamdiError, match="keep one of both"):
        read_config(path)


def test_seconds_by_batch_reach_the_devices_that_hold_the_segment(folder: Path) -> None:
    by_batch = "batch_seconds = { board = { 8 = [0.03, 0.03, 0.03, 0.04], 2 = [0.012, 0.011, 0.01, 0.01] } }"
    _, wanted = read_config(write(folder, GOOD.replace("[[source]]", by_batch + "\n[[source]]")))
    assert _resident(wanted, ("resnet56-digits", 3), "board").batch_seconds == ((2, 0.01), (8, 0.04))
    assert _resident(wanted, ("resnet56-digits", 3), "other").batch_seconds == ()


def test_a_bad_edit_keeps_what_was_good_and_is_said_once(folder: Path) -> None:
    path = write(folder, GOOD)
    watched = WatchedConfig(path)
    path.write_text(GOOD.replace("gamma", "gama") + "\n")
    with pytest.raises(PamdiError):
        watched.changed()
    assert watched.changed() is None
    assert watched.wanted.sources[0].gamma == 10.0 and "gama" in watched.rejected
    path.write_text(GOOD.replace("10.0", "20.0") + "\n\n")
    changed = watched.changed()
    assert changed is not None and changed.sources[0].gamma == 20.0 and watched.rejected == ""


def test_another_broker_asks_for_a_restart(folder: Path) -> None:
    path = write(folder, GOOD)
    watched = WatchedConfig(path)
    path.write_text(GOOD + '\n[broker]\nurl = "mqtt://elsewhere:1883"\n')
    with pytest.raises(PamdiError, match="restart the controller"):
        watched.changed()
