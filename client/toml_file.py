"""TOML files that a person wrote, read into typed structs: what is wrong, where, and how to mend it, in one line.

Any key can be overridden by the environment: ``PAMDI_BROKER_URL`` is ``[broker] url``, ``PAMDI_ID`` is ``id``. What is
wrong with a value is said of the variable that it came from.
"""

import difflib
import os
import re
import sys
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Type, TypeVar, Union

import msgspec

from pamdi.core.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")
NEAR_NAME = 0.9  # of difflib's measure: PAMDI_DRAIN is near PAMDI_DRAIN_S, and PAMDI_STORE not near PAMDI_SOURCE


def read_toml(path: Path, kind: Type[T], environment: Mapping[str, str] = os.environ) -> T:
    """``path`` as a ``kind`` (a msgspec struct that forbids unknown fields). Raises ConfigError."""
    try:
        data: Dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: give the path of a configuration file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    spoke = _override(data, kind, environment)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        place = str(error).partition(" - at ")[2].strip("`").lstrip("$.")
        raise ConfigError(f"{spoke.get(place, path)}: {_explain(str(error), kind)}") from error


def top_level_keys(path: Path) -> "set[str]":
    """Of a file that may be anything; none where it cannot be read."""
    try:
        return set(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return set()


class _Place(NamedTuple):
    """Where a variable's value goes: ``table`` is "" for the file's top level."""

    table: str
    field: Any

    @property
    def path(self) -> str:
        return f"{self.table}.{self.field.encode_name}".lstrip(".")


def _variables(kind: Any) -> Dict[str, _Place]:
    """Every variable that can override a key of ``kind``."""
    found: Dict[str, _Place] = {}
    for field in msgspec.structs.fields(kind):
        name = f"PAMDI_{field.encode_name.upper()}"
        found[name] = _Place("", field)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            for key in msgspec.structs.fields(field.type):
                found[f"{name}_{key.encode_name.upper()}"] = _Place(field.encode_name, key)
    return found


def _override(data: Dict[str, Any], kind: Any, environment: Mapping[str, str]) -> Dict[str, str]:
    """Puts the environment's values into ``data``. Returns which variable spoke for each place. Raises ConfigError."""
    known = _variables(kind)
    _refuse_mistyped(known, environment)
    spoke: Dict[str, str] = {}
    for name, (table, field) in known.items():
        if name in environment:
            inner = data.setdefault(table, {}) if table else data
            if isinstance(inner, dict):  # else the file is wrong there, and will be told so
                inner[field.encode_name] = _value(environment[name], field.type)
                spoke[known[name].path] = name
    return spoke


def _refuse_mistyped(known: Mapping[str, _Place], environment: Mapping[str, str]) -> None:
    """A variable that nearly has one of our names, or names no key of one of our tables. Others are not ours."""
    tables = tuple(f"PAMDI_{place.table.upper()}_" for place in known.values() if place.table)
    for name in sorted(environment):
        if name.startswith("PAMDI_") and name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1, NEAR_NAME)
            if near or name.startswith(tables):
                raise ConfigError(f"{name}: unknown variable: {f'did you mean {near[0]}?' if near else 'unset it'}")


def _value(text: str, type: Any) -> Any:
    """An environment variable as TOML would read it; where a string is wanted, and for what is no TOML, a string."""
    wants_string = type is str or (getattr(type, "__origin__", None) is Union and str in type.__args__)
    if wants_string and not text.startswith(('"', "'")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(problem: str, kind: Any) -> str:
    found = re.search(r"unknown field `(.+?)`", problem)
    if found is None:
        return problem
    near = difflib.get_close_matches(found.group(1), sorted(_keys(kind) - {found.group(1)}), n=1)
    cure = f"did you mean `{near[0]}`?" if near else "remove it"
    where = problem.partition(" - at ")[2].replace("`", "").lstrip("$.") or "top level"
    return f"unknown key `{found.group(1)}` at {where}: {cure}"


def _keys(kind: Any) -> "set[str]":
    keys = set()
    for field in msgspec.structs.fields(kind):
        keys.add(field.encode_name)
        for part in (field.type, *getattr(field.type, "__args__", ())):
            if isinstance(part, type) and issubclass(part, msgspec.Struct) and part is not kind:
                keys |= _keys(part)
    return keys
