"""The allocation in force, on disk, so that a restarted device can work before the controller or the broker is back."""

from pathlib import Path
from typing import Callable, Optional

import msgspec

from pamdi.core.allocation import DeviceAllocation


class KeptAllocation:
    def __init__(self, folder: Path, log: Callable[[str], None]) -> None:
        self._file, self._log = folder / "allocation.json", log

    def keep(self, payload: bytes) -> None:
        """The document as it came. Where it cannot be written, one line says so."""
        try:
            temporary = self._file.with_suffix(".new")
            temporary.write_bytes(payload)
            temporary.replace(self._file)
        except OSError as error:
            self._log(f"{self._file}: {error.strerror}: the allocation will not survive a restart")

    def read(self) -> Optional[DeviceAllocation]:
        """None where there is none, or none that can be read: the controller's will come."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=DeviceAllocation)
        except (OSError, msgspec.DecodeError, ValueError, RecursionError):
            return None
