"""How many works of one segment and class run as one batch: as many as shorten the queue most, and no more.

A batch is one piece: nothing interrupts it, so it is to a more urgent work what one segment is. So its length is
bounded by ``stretch_max`` times that of the segment alone, and the core asks for none while a more urgent work waits or
was promised room.
The seconds by batch are calibrated; a size between two that were is taken to last as long as the larger one.
"""

from typing import Sequence, Tuple

Calibrated = Sequence[Tuple[int, float]]  # (batch, seconds), by batch


def seconds_of(batch: int, single_s: float, calibrated: Calibrated) -> float:
    """What a batch takes; infinite where no batch as large was calibrated."""
    if batch == 1:
        return single_s
    return next((seconds for size, seconds in calibrated if size >= batch), float("inf"))


def batch_size(waiting: int, most: int, single_s: float, calibrated: Calibrated, stretch_max: float) -> int:
    """Of ``waiting`` works, how many to run at once, at most ``most``: 1 where a batch saves nothing."""
    best, saved_s = 1, 0.0
    for batch in range(2, min(waiting, most) + 1):
        seconds = seconds_of(batch, single_s, calibrated)
        if seconds <= stretch_max * single_s and batch * single_s - seconds > saved_s:
            best, saved_s = batch, batch * single_s - seconds
    return best
