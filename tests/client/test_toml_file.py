"""A configuration that is wrong is one line: what, where (which file or which variable), and how to mend it."""

from pathlib import Path
from typing import Dict, List, Optional

import msgspec
import pytest

from pamdi.client.toml_file import read_toml
from pamdi.core.errors import ConfigError


class Broker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = "mqtt://here"
    user: Optional[str] = None
    keepalive_s: int = 10


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    keys: List[str] = []
    drain_s: float = 20.0
    broker: Broker = Broker()


def read(tmp_path: Path, text: str = 'id = "d0"', **environment: str) -> Settings:
    path = tmp_path / "x.toml"
    path.write_text(text)
    return read_toml(path, Settings, environment)


def test_the_environment_outranks_the_file_key_by_key(tmp_path: Path) -> None:
    text = 'id = "d0"\ndrain_s = 3\n[broker]\nurl = "mqtt://file"\nuser = "ann"'
    settings = read(tmp_path, text, PAMDI_ID="d1", PAMDI_BROKER_URL="mqtt://env", PAMDI_KEYS='["a", "b"]')
    assert settings == Settings("d1", ["a", "b"], 3.0, Broker("mqtt://env", "ann", 10))


def test_where_a_string_is_wanted_a_number_is_one(tmp_path: Path) -> None:
    settings = read(tmp_path, PAMDI_ID="7", PAMDI_BROKER_USER="1234", PAMDI_BROKER_KEEPALIVE_S="30")
    assert settings == Settings("7", broker=Broker(user="1234", keepalive_s=30))


@pytest.mark.parametrize("name, value, says", [
    ("PAMDI_DRAIN_S", "soon", "PAMDI_DRAIN_S: Expected `float`"),
    ("PAMDI_BROKER_KEEPALIVE_S", "ten", "PAMDI_BROKER_KEEPALIVE_S: Expected `int`"),
    ("PAMDI_KEYS", "a", "PAMDI_KEYS: Expected `array`"),
    ("PAMDI_BROKER", "3", "PAMDI_BROKER: Expected `object`"),
    ("PAMDI_DRAIN", "3", "PAMDI_DRAIN: unknown variable: did you mean PAMDI_DRAIN_S?"),
    ("PAMDI_BROKR_URL", "x", "PAMDI_BROKR_URL: unknown variable: did you mean PAMDI_BROKER_URL?"),
    ("PAMDI_BROKER_ZZZZZZ", "x", "PAMDI_BROKER_ZZZZZZ: unknown variable: unset it"),
])  # fmt: skip
def test_a_bad_variable_is_named(tmp_path: Path, name: str, value: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, **{name: value})
    assert str(error.value).startswith(says) and "\n" not in str(error.value)


def test_variables_of_others_are_not_ours_to_judge(tmp_path: Path) -> None:
    others: Dict[str, str] = {"PAMDI_EXHAUSTIVE": "1", "PAMDI_STORE": "/x", "HOME": "/"}
    assert read(tmp_path, **others).id == "d0"


@pytest.mark.parametrize("text, says", [
    ('id = "d0"\ndrian_s = 1', "unknown key `drian_s` at top level: did you mean `drain_s`?"),
    ('id = "d0"\n[broker]\nulr = "x"', "unknown key `ulr` at broker: did you mean `url`?"),
    ('id = "d0"\nurl = "x"', "unknown key `url` at top level: remove it"),
    ("id = 3", "Expected `str`, got `int` - at `$.id`"),
    ('id = "d0"\nbroker = 3', "Expected `object`, got `int` - at `$.broker`"),
    ("", "missing required field `id`"),
    ("id = ", "not TOML"),
    ("id = \udcff", "not UTF-8"),
])  # fmt: skip
def test_a_bad_file_is_named_with_its_mistake(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as error:
        read_toml(path, Settings, {"PAMDI_BROKER_URL": "mqtt://env"})
    line = str(error.value)
    assert line.startswith(f"{path}: ") and says in line and "\n" not in line


@pytest.mark.parametrize("name, says", [("gone.toml", "No such file"), (".", "Is a directory")])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"{says}.*: give the path of a configuration file"):
        read_toml(tmp_path / name, Settings, {})
