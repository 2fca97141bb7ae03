"""What a device says of its links in its statistics, as far as it is read; what a newer device says is left aside.

device/<id>/stats: {"probes": {PEER: {"rate_bytes_per_s": ..., "recent": {"rate_bytes_per_s": ...}}}}
"""

from typing import Dict, Optional

import msgspec


class Recent(msgspec.Struct, frozen=True):
    """Of the last few rounds. ``rounds`` counts all that told something since the link came up."""

    rate_bytes_per_s: Optional[float] = None
    delay_s: Optional[float] = None
    rounds: int = 0


class Probed(msgspec.Struct, frozen=True):
    """What one device says of its link to one neighbour: of the last 16 rounds, and ``recent``."""

    delay_s: Optional[float] = None
    rate_bytes_per_s: Optional[float] = None
    beside_works_bytes_per_s: Optional[float] = None
    rounds: int = 0
    idle_rounds: int = 0
    busy_rounds: int = 0
    recent: Recent = Recent()


class DeviceStats(msgspec.Struct, frozen=True):
    """``power_mode``: nvpmodel's; None: unavailable. ``probes``: by neighbour."""

    power_mode: Optional[str] = None
    probes: Dict[str, Probed] = {}
