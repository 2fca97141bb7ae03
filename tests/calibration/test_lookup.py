"""``table = "..."`` in a fleet.toml, from tables beside the file and from those that come with pamdi."""

from pathlib import Path

import pytest

from pamdi.calibration.table import Run
from pamdi.calibration.table_file import to_text
from pamdi.controller.fleet import MergedEntry, ModelEntry, read_fleet
from pamdi.core.errors import ConfigError
from tests.calibration.made import model_table, table

FLEET = """
[[device]]
id = "a"
type = "board"
memory_bytes = 1000
[[device]]
id = "b"
type = "TYPE_OF_B"
memory_bytes = 1000
[[mesh]]
devices = "all"
rate_bytes_per_s = 1e6
[[model]]
id = "mine"
table = "m"
[[source]]
id = "gate"
model = "mine"
device = "a"
"""


def fleet_in(folder: Path, text: str = FLEET, type_of_b: str = "board") -> Path:
    tables = folder / "calibration" / "tables"
    tables.mkdir(parents=True, exist_ok=True)
    (tables / "board.toml").write_text(to_text(table()))
    fast = [Run(0, 1, 1, 0.001, 0.0009, 0.0011, 50), Run(1, 2, 1, 0.029, 0.028, 0.030, 50)]
    (tables / "other.toml").write_text(to_text(table(model_table(runs=fast), device_type="other")))
    path = folder / "fleet.toml"
    path.write_text(text.replace("TYPE_OF_B", type_of_b))
    return path


def test_a_model_comes_from_the_tables_of_all_types_in_the_fleet(tmp_path: Path) -> None:
    fleet = read_fleet(fleet_in(tmp_path, type_of_b="other"))
    assert fleet.model == [
        ModelEntry("mine", ["a", "b"], [8, 16, 4], [100, 200], {"board": [0.01, 0.02], "other": [0.001, 0.029]})
    ]


def test_merged_segments_come_with_the_seconds_that_were_measured(tmp_path: Path) -> None:
    path = fleet_in(tmp_path)
    merged = model_table(runs=[*model_table().runs, Run(0, 2, 1, 0.025, 0.024, 0.026, 50)])
    (tmp_path / "calibration" / "tables" / "board.toml").write_text(to_text(table(merged)))
    assert read_fleet(path).model[0].merged == {"board": [MergedEntry(0, 2, 0.025)]}


def test_what_is_missing_is_said_with_the_command_that_measures_it(tmp_path: Path) -> None:
    cases = [
        (
            FLEET,
            "nobody-has-it",
            "no calibration table 'm' for device type nobody-has-it: there is no nobody-has-it.toml",
        ),
        (FLEET.replace('"m"', '"n"'), "board", "no calibration table 'n' for device type board: it has m; measure it"),
        (FLEET.replace('table = "m"', 'table = "m"\nunits = ["a"]'), "board", "keep one of both"),
    ]
    for text, type_of_b, words in cases:
        with pytest.raises(ConfigError) as refusal:
            read_fleet(fleet_in(tmp_path, text, type_of_b))
        assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_model_cut_differently_on_two_types_is_refused(tmp_path: Path) -> None:
    path = fleet_in(tmp_path, type_of_b="other")
    other = table(model_table(bytes=[8, 17, 4]), device_type="other")
    (tmp_path / "calibration" / "tables" / "other.toml").write_text(to_text(other))
    with pytest.raises(ConfigError, match="other and board were calibrated with different cuts"):
        read_fleet(path)


def test_a_table_that_does_not_add_up_is_not_used(tmp_path: Path) -> None:
    path = fleet_in(tmp_path)
    file = tmp_path / "calibration" / "tables" / "board.toml"
    file.write_text(
        file.read_text().replace("seconds = 0.031", "seconds = 0.3").replace("high_s = 0.032", "high_s = 0.4")
    )
    with pytest.raises(ConfigError, match="does not add up"):
        read_fleet(path)


def test_the_tables_that_ship_go_together_in_one_fleet(tmp_path: Path) -> None:
    types = ["agx-xavier", "jetson-nano", "x86-cpu"]
    devices = "".join(f'[[device]]\nid = "{type}"\ntype = "{type}"\nmemory_bytes = 1\n' for type in types)
    models = "".join(f'[[model]]\nid = "{name}"\ntable = "{name}"\n' for name in ("gpt2", "resnet50", "resnet56"))
    path = tmp_path / "fleet.toml"
    path.write_text(devices + models)
    fleet = read_fleet(path)
    assert [(len(model.units), sorted(model.seconds)) for model in fleet.model] == [
        (12, types),
        (16, types),
        (8, types),
    ]
    resnet50 = fleet.model[1].seconds
    assert sum(resnet50["agx-xavier"]) == pytest.approx(0.00337, rel=1e-3)
    assert sum(resnet50["jetson-nano"]) == pytest.approx(0.0298, rel=1e-3)
