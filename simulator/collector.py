"""Python's collector of cycles, while a world runs: a fifth of a large fleet's time, and it finds nothing.

What the core and the simulator make and drop by the million (messages, events, entries of heaps) holds no cycles and
goes by reference counts. Only what a crash leaves behind is a cycle: a whole device. So the collector is not switched
off, but looks after 20,000 new objects instead of 700, which bounds what may wait for it to some tens of megabytes.
"""

import gc
from contextlib import contextmanager
from typing import Iterator

THRESHOLDS = (20_000, 20, 10)


@contextmanager
def seldom() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
