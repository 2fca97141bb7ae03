"""What jobs ask of servers, and what they cost there, by arrays: the formulas of ``servers`` for many jobs at once."""

from typing import Tuple

import numpy as np

from pamdi.controller.objective import FRAME_BYTES
from pamdi.controller.solver.variants import Floats

FULLER_MIN = 0.005  # of what is free, however much is placed there

Job = Tuple[Floats, Floats, Floats]  # seconds, of the last piece, squares of the pieces


def transfers(nbytes: Floats, rate: Floats) -> Job:
    """Of tensors on links, frame by frame, as ``Problem.transfer`` has them."""
    full, rest = np.divmod(nbytes, FRAME_BYTES)
    last_s = np.where(rest > 0, rest / rate, np.where(full > 0, FRAME_BYTES / rate, 0.0))
    return nbytes / rate, last_s, full * (FRAME_BYTES / rate) ** 2 + (rest / rate) ** 2


def price(job: Job, slope: Floats, gamma: Floats) -> Floats:
    """What one work per second more adds to J; ``slope`` [6, ...]."""
    t, end, fines = job
    wait, stretch, _, square, fine, load = slope
    return np.asarray(gamma * (wait + (t - end) * stretch + end) + (square * t + load) * t + fine * fines)


def placed(job: Job, slope: Floats, room: Floats, gamma: Floats, rate_hz: Floats) -> Floats:
    """Per work of a flow of ``rate_hz``: its own load makes it wait, and others more than the slope tells."""
    t, end, fines = job
    wait, stretch, _, square, fine, load = slope
    own = rate_hz * t
    free, all_free = room
    fuller = free / np.maximum(free - own, FULLER_MIN * free)
    all_fuller = all_free / np.maximum(all_free - own, FULLER_MIN * all_free)
    alone = 0.5 * own * t * stretch / np.maximum(free, 1e-9)
    return np.asarray(
        gamma * ((wait + alone) * fuller + (t - end) * stretch + end) + (square * t + load * all_fuller) * t
        + fine * fines
    )  # fmt: skip
