"""Draw the state machines and list the messages, from the tables and classes themselves.

python -m pamdi.cli.pictures docs           write docs/state-machines.md and docs/protocol-messages.md
python -m pamdi.cli.pictures --check docs   exit 1 when they are not what would be written
"""

import argparse
import inspect
import sys
from pathlib import Path
from typing import Dict, List, get_args

import msgspec

from pamdi.core import device_life, messages, slot_life, work_life
from pamdi.core.errors import Reason
from pamdi.core.table import Table
from pamdi.core.topics import LEAVES

MACHINES = ((slot_life, slot_life.SLOT), (work_life, work_life.WORK), (device_life, device_life.DEVICE))


def state_machines() -> str:
    parts = ["# State machines\n\nGenerated from the tables in `core/` by `make docs`; edit those.\n"]
    for module, table in MACHINES:
        parts.append(f"## {table.name}\n\n{inspect.getdoc(module)}\n\n```mermaid\n{_diagram(table)}\n```\n")
        refused = ", ".join(f"{event} in {state}" for state, event in sorted(table.refused))
        parts.append(f"Refused by name: {refused}.\n")
    return "\n".join(parts)


def protocol() -> str:
    parts = ["# Messages, topics, reasons\n\nGenerated from `core/` by `make docs`; edit that.\n"]
    parts.append(f"## Messages on direct links (version {messages.VERSION})\n\n{inspect.getdoc(messages)}\n")
    for kind in get_args(messages.AnyMessage):
        parts.append(f"### {kind.__name__}\n\n{inspect.getdoc(kind)}\n")
        for field in msgspec.structs.fields(kind):
            name = getattr(field.type, "__name__", None) or str(field.type)
            parts.append(f"- `{field.name}`: {name.replace('typing.', '').replace('pamdi.core.', '')}")
        parts.append("")
    parts.append("## MQTT topics, below the prefix\n")
    for owner, leaves in LEAVES.items():
        middle = "" if owner == "controller" else "/<id>"
        parts.extend(f"- `{owner}{middle}/{leaf}`" for leaf in leaves)
    parts.append("\n## Reasons of refused and failed works\n")
    parts.extend(f"- `{reason.value}`" for reason in Reason)
    return "\n".join(parts) + "\n"


def _diagram(table: Table) -> str:
    lines = ["stateDiagram-v2", f"    [*] --> {table.initial}"]
    for state, moves in table.moves.items():
        targets: Dict[str, List[str]] = {}
        for event, following in moves.items():
            targets.setdefault(following, []).append(event)
        lines.extend(f"    {state} --> {to}: {', '.join(events)}" for to, events in targets.items() if to != state)
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    pages = {"state-machines.md": state_machines(), "protocol-messages.md": protocol()}
    stale = []
    for name, text in pages.items():
        path = arguments.folder / name
        if not arguments.check:
            arguments.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(str(path))
    if stale:
        print(f"{', '.join(stale)}: not what the code says: run `make docs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
