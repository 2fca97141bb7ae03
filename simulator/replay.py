"""A record of a real daemon, run again: the same events at the same instants give the same instructions.

Events are fed through a new core as fast as it takes them, and what it says is compared with what the daemon's core
said, line by line. A difference means that the core is not what it was, or that something other than events decides.
"""

from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Type

import msgspec

from pamdi.core import events as ev
from pamdi.core.device import Device
from pamdi.core.errors import BadInput
from pamdi.daemon.recorder import FORMAT, Line, Opening, plain

EVENTS: Dict[str, Type[Any]] = {kind.__name__: kind for kind in ev.Event.__subclasses__()}


class Outcome(NamedTuple):
    """``events`` replayed, ``instructions`` compared; ``difference``: the first, in words, or None."""

    events: int
    instructions: int
    difference: Optional[str]


def replay(path: Path) -> Outcome:
    """Raises BadInput for a file that is no record."""
    events = instructions = 0
    with path.open("rb") as file:
        opening = _opening(path, file.readline())
        device = Device(opening.device, opening.limits)
        for number, text in enumerate(file, 2):
            if not text.endswith(b"\n"):
                break  # the process was killed while it wrote this
            line = _line(path, number, text)
            said = [plain(instruction) for instruction in device.handle(_event(path, number, line), line.now)]
            recorded = [bytes(raw) for raw in line.said]
            if said != recorded:
                return Outcome(events, instructions, _difference(number, line, recorded, said))
            events += 1
            instructions += len(said)
    return Outcome(events, instructions, None)


def _opening(path: Path, text: bytes) -> Opening:
    try:
        opening = msgspec.json.decode(text, type=Opening)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not a record of a daemon: set record = ... in its daemon.toml to make one") from error
    if opening.record != FORMAT:
        raise BadInput(f"{path}: a record of format {opening.record}, we read {FORMAT}: use the version that made it")
    return opening


def _line(path: Path, number: int, text: bytes) -> Line:
    try:
        return msgspec.json.decode(text, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}, line {number}: {error}: the record is damaged") from error


def _event(path: Path, number: int, line: Line) -> Any:
    if line.event not in EVENTS:
        raise BadInput(f"{path}, line {number}: no event {line.event!r}: use the version that made the record")
    try:
        return msgspec.json.decode(line.fields, type=EVENTS[line.event])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}, line {number}: {error}: the record is damaged") from error


def _difference(number: int, line: Line, recorded: "list[bytes]", said: "list[bytes]") -> str:
    for i, (old, new) in enumerate(zip(recorded, said)):
        if old != new:
            return f"line {number}, {line.event}: instruction {i} was {old.decode()}, is {new.decode()}"
    return f"line {number}, {line.event}: {len(recorded)} instructions then, {len(said)} now"
