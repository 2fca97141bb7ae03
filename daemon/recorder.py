"""What happened to a device, and what its core said to it: one JSON line per event, for ``pamdi.simulator.replay``.

Off unless ``record`` in daemon.toml names a file. Of a payload there is only that it is there (the core never looks
inside); all else of an event is written, so the same events at the same instants, given to a new core, must give the
same instructions. The file is bounded: at ``RECORD_BYTES_MAX`` it ends, a line in the log says so, the device goes on.
"""

from pathlib import Path
from typing import Any, Callable, List, Optional

import msgspec

from pamdi.core.errors import ConfigError
from pamdi.core.limits import Limits

FORMAT = 1
RECORD_BYTES_MAX = 256 * 2**20

_encoder = msgspec.json.Encoder()


class Opening(msgspec.Struct, frozen=True):
    """The first line. ``limits``: the bounds that the core was given."""

    record: int
    device: str
    limits: Limits


class Line(msgspec.Struct, frozen=True):
    """One event: its class's name and its fields; and the instructions, likewise."""

    now: float
    event: str
    fields: msgspec.Raw
    said: List[msgspec.Raw]


class Recorder:
    """Writes as it goes; a killed process loses the last lines at most."""

    def __init__(
        self, path: Path, device: str, limits: Limits, log: Callable[[str], None], bytes_max: int = RECORD_BYTES_MAX
    ) -> None:
        self._log, self._bytes_max, self._bytes = log, bytes_max, 0
        self._path = path
        self._file: Optional[Any] = path.open("wb")
        self._put(_encoder.encode(Opening(FORMAT, device, limits)))

    def happened(self, now: float, event: Any, said: List[Any]) -> None:
        if self._file is None:
            return
        fields = msgspec.Raw(_encoder.encode(without_payload(event)))
        line = Line(now, type(event).__name__, fields, [msgspec.Raw(plain(instruction)) for instruction in said])
        self._put(_encoder.encode(line))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _put(self, line: bytes) -> None:
        assert self._file is not None
        if self._bytes + len(line) + 1 > self._bytes_max:
            self._log(f"{self._path}: {self._bytes_max} bytes are full: nothing more is recorded")
            self.close()
            return
        try:
            self._file.write(line + b"\n")
            self._bytes += len(line) + 1
        except OSError as error:
            self._log(f"{self._path}: {error.strerror}: nothing more is recorded")
            self._file = None


def open_recorder(path: Optional[str], device: str, limits: Limits, log: Callable[[str], None]) -> Optional[Recorder]:
    """None where nothing shall be recorded. Raises ConfigError for a file that cannot be written."""
    if path is None:
        return None
    try:
        return Recorder(Path(path), device, limits, log)
    except OSError as error:
        raise ConfigError(f"record = {path!r}: {error.strerror}: name a file in a folder that exists") from error


def plain(instruction: Any) -> bytes:
    """An instruction as a JSON array of its class's name and its fields, but for payloads."""
    return _encoder.encode([type(instruction).__name__, without_payload(instruction)])


def without_payload(said: Any) -> Any:
    """The fields of ``said`` (a struct), with True for every tensor."""
    fields = {}
    for name in said.__struct_fields__:
        value = getattr(said, name)
        if name == "payload":
            value = None if value is None else True
        elif isinstance(value, tuple) and value and hasattr(value[0], "payload"):  # records of a restored journal
            value = [without_payload(record) for record in value]
        fields[name] = value
    return fields
