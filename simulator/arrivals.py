"""When works come: each source from a stream of its own, seeded by (seed, source id).

So a source sees the same arrivals whoever else is there and whatever the policy is; and they are those of the demo's
load, which seeds its streams alike.
"""

import random
from typing import Iterator, Optional


def instants(
    seed: int, source: str, kind: str, rate_hz: float, count: Optional[int], start_s: float
) -> Iterator[float]:
    """Seconds from the start of the run, ascending; without end where ``count`` is None. Kinds: poisson, periodic."""
    stream = random.Random(f"{seed}/{source}")
    at, made = start_s, 0
    while count is None or made < count:
        at += stream.expovariate(rate_hz) if kind == "poisson" else 1.0 / rate_hz
        yield at
        made += 1
