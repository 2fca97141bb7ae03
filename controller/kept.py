"""What a controller must not forget over a restart: its epoch, which devices people have drained, which links are not
what is stated, and which devices are slower than their tables; it would else send works over a bad link, or to a hot
board, until it has found that out anew."""

from pathlib import Path
from typing import Tuple

import msgspec


class KeptLink(msgspec.Struct, frozen=True):
    """One direction, what it is planned with, and what was stated then (``guess``: by the default alone)."""

    a: str
    b: str
    rate_bytes_per_s: float
    delay_s: float
    stated_rate_bytes_per_s: float
    stated_delay_s: float
    guess: bool = False


class KeptSlower(msgspec.Struct, frozen=True):
    """A device in one life (``instance``), and what it is planned with (``slowed.Slower``): ``ratios`` by segment, as
    (model, first, stop, ratio)."""

    device: str
    instance: int
    factor: float
    ratios: Tuple[Tuple[str, int, int, float], ...] = ()


class Kept(msgspec.Struct, frozen=True):
    epoch: int = 0
    drained: Tuple[str, ...] = ()
    links: Tuple[KeptLink, ...] = ()
    slower: Tuple[KeptSlower, ...] = ()


class KeptFile:
    """One small JSON file, replaced as a whole: a reader sees the old or the new, never half of one."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "controller.json"
        self.said = ""

    def read(self) -> Kept:
        """What was kept; the defaults when there is nothing or nothing readable (devices know their epochs too)."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Kept)
        except FileNotFoundError:
            return Kept()
        except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
            self.said = f"{self.path}: {error}: starting from the devices' own epochs, with no device drained"
            return Kept()

    def write(self, kept: Kept) -> bool:
        """Returns whether it is written; ``said`` tells why not."""
        temporary = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.json.encode(kept))
            temporary.replace(self.path)
        except OSError as error:
            self.said = f"{self.path}: {error.strerror}: devices' own epochs will be used after a restart"
            return False
        return True
