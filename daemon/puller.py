"""What the engine room calls before it loads: with ``store_url``, a segment that is not here is pulled first."""

from pathlib import Path
from typing import Callable, Optional

from pamdi.core.segment import Segment
from pamdi.daemon.config import DaemonConfig
from pamdi.engines.pull import Origin, pull_segment


def puller(config: DaemonConfig, log: Callable[[str], None]) -> Optional[Callable[[Segment, str], None]]:
    """None without ``store_url``. What it returns raises EngineError in one line."""
    if not config.store_url:
        return None
    origin = Origin(
        config.store_url, config.store_ca_file, tuple(config.trusted_keys), store_bytes_max=config.store_bytes_max
    )

    def pull(segment: Segment, digest: str) -> None:
        pull_segment(origin, Path(config.store), segment, digest, config.backend.name, config.type, log)

    return pull
