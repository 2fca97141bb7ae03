"""What may happen to a message on its way, besides the link going down: lost, doubled, late.

A TCP link does none of this to a message alone, but a way over others does all of it now and then. The weather ends
at ``until``: from then on the world is kind, and everything must come to its end.
"""

import random
from typing import List


class Weather:
    """``lost`` and ``doubled`` are chances per message; a copy is late by up to ``late_s``, so that messages overtake
    each other, on one link too."""

    def __init__(self, lost: float = 0.0, doubled: float = 0.0, late_s: float = 0.0, until: float = 0.0) -> None:
        self.lost, self.doubled, self.late_s, self.until = lost, doubled, late_s, until

    def copies(self, drawn: random.Random, now: float) -> List[float]:
        """For each copy that arrives, by how much it is late."""
        if now >= self.until:
            return [0.0]
        if drawn.random() < self.lost:
            return []
        count = 2 if drawn.random() < self.doubled else 1
        return [drawn.uniform(0.0, self.late_s) for _ in range(count)]
