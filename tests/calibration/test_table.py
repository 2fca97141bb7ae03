"""What a calibration table may say, and that every complaint is one line with a way out."""

from pathlib import Path
from typing import Any, Callable, Dict

import msgspec
import pytest

from pamdi.calibration.lookup import SHIPPED
from pamdi.calibration.table import Chain, Run, Table, check_table, read_table, unit_seconds
from pamdi.calibration.table_file import merge, to_text, write_merged
from pamdi.core.errors import ConfigError
from tests.calibration.made import model_table, table


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tables" / "board.toml"
    said = table(model_table(derived='said "so"', temperature_c=41.5), model_table("n"), power_mode="2 15W")
    assert write_merged(path, said) == said
    assert read_table(path) == said
    assert [entry.name for entry in path.parent.iterdir()] == ["board.toml"]


def test_a_segment_takes_what_was_measured_and_else_what_its_units_take() -> None:
    model = model_table()
    assert (model.seconds_of(0, 2), model.seconds_of(1, 2), model.seconds_of(0, 1, batch=4)) == (0.030, 0.020, None)
    merged = msgspec.structs.replace(model, runs=[*model.runs, Run(0, 2, 1, 0.025, 0.024, 0.026, 9)])
    assert merged.seconds_of(0, 2) == 0.025
    with pytest.raises(ConfigError, match="calibrate it with --batch 4"):
        unit_seconds(model, 4)


def replaced(index: int, **changed: Any) -> Callable[[], Table]:
    runs = model_table().runs
    runs[index] = msgspec.structs.replace(runs[index], **changed)
    return lambda: table(model_table(runs=runs))


PUBLISHED: Dict[str, Any] = {"measured": False, "source": "https://example.org/figures", "derived": "by FLOPs"}

WRONG: Dict[str, Callable[[], Table]] = {
    "does not add up: the units' sum is 0.060000 s": replaced(1, seconds=0.05, low_s=0.04, high_s=0.06),
    "segment 0:2 takes 0.200000 s": lambda: table(
        model_table(runs=[*model_table().runs, Run(0, 2, 1, 0.2, 0.19, 0.21, 9)])
    ),
    "segment 0:2 takes 0.002000 s": lambda: table(
        model_table(runs=[*model_table().runs, Run(0, 2, 1, 0.002, 0.001, 0.003, 9)])
    ),
    "no seconds for unit 1": lambda: table(model_table(runs=model_table().runs[:1])),
    "has no chain": lambda: table(model_table(chains=[])),
    "a run is there twice": lambda: table(model_table(runs=model_table().runs * 2)),
    "is not within 0:2": replaced(1, stop=3),
    "seconds positive and finite": replaced(1, seconds=float("nan")),
    "seconds must lie in low_s to high_s": replaced(0, low_s=0.0105),
    "low_s, high_s or samples is missing": replaced(0, samples=0),
    "2 units need 3 bytes": lambda: table(model_table(bytes=[1, 2])),
    "a negative size": lambda: table(model_table(memory=[-1, 2])),
    "is there 2 times": lambda: table(model_table(), model_table()),
    "make them agree": lambda: table(model_table(source="https://example.org")),
    "source must have the figure's address": lambda: table(model_table(**{**PUBLISHED, "derived": ""})),
    "of what was not measured": lambda: table(model_table(**PUBLISHED)),
    "update pamdi": lambda: table(format=2),
    "tolerance is 1.5": lambda: table(model_table(tolerance=1.5)),
    "use letters": lambda: table(device_type="a/b"),
}


@pytest.mark.parametrize("words", sorted(WRONG))
def test_a_table_that_cannot_be_is_refused_in_one_line(words: str, tmp_path: Path) -> None:
    wrong = WRONG[words]()
    with pytest.raises(ConfigError) as refusal:
        check_table(wrong, "board.toml")
    assert words in str(refusal.value) and "\n" not in str(refusal.value)
    with pytest.raises(ConfigError):
        write_merged(tmp_path / "board.toml", wrong)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "board.toml").write_text(to_text(wrong))
    with pytest.raises(ConfigError):
        read_table(tmp_path / "board.toml")


def test_a_mistyped_key_and_a_file_under_another_name_are_refused(tmp_path: Path) -> None:
    text = to_text(table())
    (tmp_path / "board.toml").write_text(text.replace("power_mode", "power_mood"))
    with pytest.raises(ConfigError, match="did you mean `power_mode`"):
        read_table(tmp_path / "board.toml")
    (tmp_path / "other.toml").write_text(text)
    with pytest.raises(ConfigError, match="rename the file to board.toml"):
        read_table(tmp_path / "other.toml")


def test_a_later_measurement_replaces_its_own_segments_and_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    write_merged(path, table(model_table(), model_table("n")))
    again = Run(0, 1, 1, 0.0105, 0.0104, 0.0106, 99)
    merged = write_merged(path, table(model_table(runs=[again, Run(0, 2, 1, 0.029, 0.028, 0.030, 40)])))
    assert [model.id for model in merged.model] == ["m", "n"]
    assert merged.model[0].runs == [again, model_table().runs[1], Run(0, 2, 1, 0.029, 0.028, 0.030, 40)]


def test_what_does_not_belong_together_is_not_merged() -> None:
    published = model_table(**PUBLISHED, runs=[Run(0, 1, 1, 0.1), Run(1, 2, 1, 0.2)], chains=[Chain(1, 0.3)])
    cases = [
        (table(power_mode="2 15W"), "in power mode 'unavailable', this device is in '2 15W': change it back"),
        (table(device_type="other"), "write to another file"),
        (table(model_table(backend="other")), "backend there is 'stub 1 on none', now 'other'"),
        (table(model_table(units=["a", "c"])), "units there differ"),
        (table(published), "published figures over measured ones"),
    ]
    for new, words in cases:
        with pytest.raises(ConfigError) as refusal:
            merge(table(), new, "board.toml")
        assert words in str(refusal.value)
    assert merge(table(published), table(), "board.toml") == table()


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_every_table_that_ships_is_one(path: Path) -> None:
    shipped = read_table(path)
    assert shipped.model
    assert to_text(shipped) == path.read_text()


def test_a_table_that_is_not_there_is_no_configuration_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="orin-nano.toml: no such table: `pamdi calibrate latency` writes it"):
        read_table(tmp_path / "orin-nano.toml")
