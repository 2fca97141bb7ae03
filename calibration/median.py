"""When enough has been measured: the median of repeated runs and its confidence interval.

The median, not the mean: on a quiet board a run takes a certain time, and what disturbs it (an interrupt, another
process) only ever adds; a few such runs move the mean of a hundred and not the median. What a work meets on a loaded
board is the daemon's statistics to tell, not a calibration's.

The interval is the one of order statistics (H. A. David, H. N. Nagaraja, *Order Statistics*, 3rd ed., 2003, 7.1): with
n independent samples of any continuous distribution, the median lies between the k-th smallest and the k-th largest
with probability 1 - 2 P(Binomial(n, 1/2) < k). No shape of the distribution is assumed. Samples that follow each other
are not quite independent, and looking repeatedly makes the interval a little too narrow: so looks are few, at growing
counts.
"""

import gc
import math
from typing import Callable, List, NamedTuple, Sequence

CONFIDENCE = 0.95
SAMPLES_MIN = 12
LOOK_GROWTH = 1.3


class Rule(NamedTuple):
    """Until the interval is ``width`` of the median, or for ``seconds_max``. ``warm_runs`` and ``warm_s``, both, are
    not counted: caches, clocks and lazy initialisation settle."""

    width: float = 0.05
    seconds_max: float = 5.0
    samples_max: int = 20_000
    warm_runs: int = 3
    warm_s: float = 0.1


class Median(NamedTuple):
    seconds: float
    low_s: float
    high_s: float
    samples: int

    @property
    def width(self) -> float:
        return (self.high_s - self.low_s) / self.seconds if self.seconds > 0 else math.inf


def median_of(samples: Sequence[float], confidence: float = CONFIDENCE) -> Median:
    """Fewer samples than a confidence needs (6 for 95 %) give all there is: smallest to largest."""
    ordered = sorted(samples)
    count = len(ordered)
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    rank = rank_of(count, confidence)
    return Median(middle, ordered[max(rank, 1) - 1], ordered[count - max(rank, 1)], count)


def rank_of(count: int, confidence: float) -> int:
    """The largest k with 2 P(Binomial(count, 1/2) < k) <= 1 - confidence; 0 where there is none. Exact integers up to
    a thousand samples, the normal approximation (with continuity correction, rounded outwards) beyond."""
    if count > 1000:
        return int((count - 1) / 2 - 0.5 * _normal_quantile(confidence) * math.sqrt(count))
    allowed = (1 - confidence) / 2 * 2**count
    below, rank = 0, 0
    while rank < count // 2 and below + math.comb(count, rank) <= allowed:
        below += math.comb(count, rank)
        rank += 1
    return rank


def _normal_quantile(confidence: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + confidence / 2)


def samples_of(once: Callable[[], object], rule: Rule, clock: Callable[[], float], count: int = 0) -> List[float]:
    """Seconds of runs of ``once``, as many as ``rule`` wants, or ``count``; never for longer than the rule's limit. The
    garbage collector rests meanwhile, as in timeit."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        _warm(once, rule, clock)
        return _sample(once, rule, clock, count)
    finally:
        if collecting:
            gc.enable()


def _warm(once: Callable[[], object], rule: Rule, clock: Callable[[], float]) -> None:
    until, runs = clock() + rule.warm_s, 0
    while runs < rule.warm_runs or clock() < until:
        once()
        runs += 1


def _sample(once: Callable[[], object], rule: Rule, clock: Callable[[], float], count: int) -> List[float]:
    samples: List[float] = []
    until, look = clock() + rule.seconds_max, count or SAMPLES_MIN
    while True:
        began = clock()
        once()
        ended = clock()
        samples.append(ended - began)
        if ended >= until or len(samples) >= (count or rule.samples_max):
            return samples
        if not count and len(samples) >= look:
            if median_of(samples).width <= rule.width:
                return samples
            look = min(math.ceil(look * LOOK_GROWTH), rule.samples_max)
