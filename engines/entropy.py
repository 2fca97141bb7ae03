"""The range in which eight bits lose least of a tensor: the one whose 128 levels keep most of the distribution's
information (S. Migacz, *8-bit inference with TensorRT*, GTC 2017).

Of a histogram of absolute values every range that begins at zero is tried: what lies beyond is counted to its last bin,
as saturation does; what lies within is merged into 128 levels and spread again over the bins that were not empty. The
range is chosen where the second tells least apart from the first (Kullback-Leibler divergence). A freak value so costs
its own error, and not the resolution of all others.

Ours is a bound on what saturates. Where a tensor has few distinct values, as behind a flat background, merging them
costs more by this measure than losing a third of them does, and the answers are nonsense.

onnxruntime has a calibrator of this name. With what ``quantize_static`` gives it, 128 bins for 128 levels (1.32, read
in its source), the whole range is the only one that it tries: that is a maximum by another name.
"""

from typing import Dict, Mapping, Sequence, Tuple

import numpy as np

BINS = 2048
LEVELS = 128
SATURATED_MAX = 0.001  # of the values that are not zero
SMOOTH = 1e-9  # of all, for what the levels lose altogether: else one value beyond the range would forbid it


class Histograms:
    """Of absolute values, by tensor; zeros are left out, since every range has them exactly, and after a ReLU they
    would outweigh the rest. Two rounds over the same values: first ``widen``, then ``count``."""

    def __init__(self) -> None:
        self._largest: Dict[str, float] = {}
        self._counts: Dict[str, "np.ndarray"] = {}

    def widen(self, values: Mapping[str, "np.ndarray"]) -> None:
        for name, array in values.items():
            self._largest[name] = max(self._largest.get(name, 0.0), float(np.abs(array).max(initial=0.0)))

    def count(self, values: Mapping[str, "np.ndarray"]) -> None:
        for name, array in values.items():
            if self._largest[name] > 0:
                counts, _ = np.histogram(np.abs(array[array != 0]), BINS, range=(0.0, self._largest[name]))
                self._counts[name] = self._counts.get(name, 0) + counts

    def largest(self) -> Dict[str, float]:
        return {name: top for name, top in self._largest.items() if top > 0}

    def ranges(self) -> Dict[str, float]:
        """By tensor, the greatest absolute value that is told apart. A tensor that is always zero has none."""
        return {name: best_bins(counts) * self._largest[name] / BINS for name, counts in self._counts.items()}


def best_bins(counts: "np.ndarray") -> int:
    """How many of the first bins the range has."""
    inside = np.cumsum(counts)
    least = int(np.searchsorted(inside, (1.0 - SATURATED_MAX) * inside[-1])) + 1
    return min(range(max(least, LEVELS), len(counts) + 1), key=lambda bins: (_divergence(counts, bins), -bins))


def _divergence(counts: "np.ndarray", bins: int) -> float:
    inside = counts[:bins].astype(np.float64)
    exact = inside.copy()
    exact[-1] += counts[bins:].sum()
    level = np.arange(bins) * LEVELS // bins
    some = inside > 0
    each = np.bincount(level, inside, LEVELS) / np.maximum(np.bincount(level, some, LEVELS), 1)
    return _distance(exact, np.where(some, each[level], 0.0))


def _distance(exact: "np.ndarray", coarse: "np.ndarray") -> float:
    p, q = (array / max(array.sum(), 1.0) + SMOOTH for array in (exact, coarse))
    return float((p * np.log(p / q)).sum())


def steps_of(count: int, at_once: int) -> Sequence[Tuple[int, int]]:
    """``count`` examples, a few at a time, always as many: a graph may want it so."""
    step = min(count, at_once)
    return [(begin, begin + step) for begin in range(0, count - step + 1, step)]
