"""What a link carries *now*: the last few probes, so that a link that has become slow, or fast again, shows soon.

    delay = the smallest small probe's round trip / 2        rate = the best of the rounds

Whatever else happens to a round only ever makes it later, so the best of a few is nearest to the truth. A round beside
works counts too: a probe goes behind all works, so while it waits and leaves, the link is never idle, and everything
that left in that time, works and probe, is what the link can do. Without that a link that became slow under load would
never be seen: there is no idle moment on it. For the same reason a probe that never came back counts where it still
waits to leave. A small probe that waited behind
anything, or whose echo did, tells nothing of the delay; nor is its time taken away from the large one's, which would
make a link as fast as one likes. Without any that did not wait, the rate is at least what is said.
"""

from typing import Iterable, NamedTuple, Optional, Tuple

RECENT = 3  # rounds: one of them undisturbed is enough


class Sighting(NamedTuple):
    """Of one round. ``small_s``, ``large_s``: seconds until the echo, ``small_s`` None where anything went before it.
    ``nbytes``: of the large probe beyond the small one; ``moved_bytes``: that left beside and with it in ``large_s``;
    ``idle``: nothing else did."""

    small_s: Optional[float]
    large_s: float
    nbytes: int
    moved_bytes: float
    idle: bool

    def rate_bytes_per_s(self, small_s: float) -> float:
        if self.idle:
            return self.nbytes / max(self.large_s - small_s, 1e-6)
        return self.moved_bytes / max(self.large_s, 1e-6)


def rate_and_delay(seen: Iterable[Sighting]) -> Tuple[Optional[float], Optional[float]]:
    """Bytes per second and seconds one way; None where nothing is known."""
    rounds = list(seen)
    small_s = min((found.small_s for found in rounds if found.small_s is not None), default=None)
    rate = max((found.rate_bytes_per_s(small_s or 0.0) for found in rounds), default=None)
    return rate, None if small_s is None else small_s / 2
