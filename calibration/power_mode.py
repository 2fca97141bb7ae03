"""A table holds for one power mode: what to say of a board that is in another. For the controller and the doctor."""

from pathlib import Path
from typing import Iterable, List, Optional

from pamdi.calibration.table import UNAVAILABLE, read_table


def other_mode(id: str, type: str, mode: Optional[str], measured: Iterable[str]) -> List[str]:
    """A line for each mode of ``measured``, the tables' of ``type``, that is not ``mode``, the board's: what, then how
    to mend it. Nothing where the board's is unknown (None)."""
    if mode is None:
        return []
    return [
        f"{id} is in power mode {mode!r}, the table of {type} was measured in {other!r}: `nvpmodel -m` on {id}, or "
        "`pamdi calibrate latency` in this mode"
        for other in sorted(set(measured) - {mode, UNAVAILABLE, ""})
    ]


def mode_of_table(type: str, folders: Iterable[Path]) -> Optional[str]:
    """Of the first of ``folders`` that has a table of ``type``; None where none has. Raises ConfigError for a table
    that cannot be read."""
    path = next((folder / f"{type}.toml" for folder in folders if (folder / f"{type}.toml").is_file()), None)
    return None if path is None else read_table(path).power_mode
