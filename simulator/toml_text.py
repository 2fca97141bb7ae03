"""A scenario as the text of a scenario.toml, so that what a search has found can be run again by hand."""

import json
from typing import Any, Dict, List

import msgspec

from pamdi.simulator.scenario import Scenario


def toml_of(scenario: Scenario) -> str:
    """``read_scenario`` of this text is the same scenario (a test says so)."""
    return text_of(msgspec.to_builtins(scenario))


def text_of(data: Dict[str, Any]) -> str:
    """``data`` holds plain values, tables, and lists of tables, which may hold tables of plain values."""
    lines: List[str] = []
    tables = {name: value for name, value in data.items() if isinstance(value, (dict, list))}
    _pairs({name: value for name, value in data.items() if name not in tables}, lines)
    for name, value in tables.items():
        for entry in [value] if isinstance(value, dict) else value:
            lines += ["", f"[{name}]" if isinstance(value, dict) else f"[[{name}]]"]
            _table(name, entry, lines)
    return "\n".join(lines).strip() + "\n"


def _table(name: str, entry: Dict[str, Any], lines: List[str]) -> None:
    nested = {key: value for key, value in entry.items() if isinstance(value, dict)}
    _pairs({key: value for key, value in entry.items() if key not in nested}, lines)
    for key, value in nested.items():
        lines.append(f"[{name}.{key}]")
        _pairs(value, lines)


def _pairs(entry: Dict[str, Any], lines: List[str]) -> None:
    """JSON's strings, numbers, booleans and lists are TOML's too."""
    lines.extend(f"{key} = {json.dumps(value)}" for key, value in entry.items() if value is not None)
