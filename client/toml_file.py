"""TOML files that a person wrote, read into typed structs: what is wrong, where, and how to mend it, in one line.

Any key can be overridden by the environment: ``PAMDI_BROKER_URL`` is ``[broker] url``, ``PAMDI_ID`` is ``id``.
"""

import difflib
import os
import re
import sys
from pathlib import Path
from typing import Any, Dict, Mapping, Type, TypeVar

import msgspec

from pamdi.core.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


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
    _override(data, kind, environment)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error), kind)}") from error


def _override(data: Dict[str, Any], kind: Any, environment: Mapping[str, str]) -> None:
    for field in msgspec.structs.fields(kind):
        name = f"PAMDI_{field.encode_name.upper()}"
        if name in environment:
            data[field.encode_name] = _value(environment[name])
        table = field.type
        if isinstance(table, type) and issubclass(table, msgspec.Struct):
            for key in msgspec.structs.fields(table):
                name = f"PAMDI_{field.encode_name.upper()}_{key.encode_name.upper()}"
                if name in environment:
                    data.setdefault(field.encode_name, {})[key.encode_name] = _value(environment[name])


def _value(text: str) -> Any:
    """An environment variable as TOML would read it; what is no TOML value is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(problem: str, kind: Any) -> str:
    found = re.search(r"unknown field `(.+?)`", problem)
    if found is None:
        return problem
    near = difflib.get_close_matches(found.group(1), sorted(_keys(kind)), n=1)
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
