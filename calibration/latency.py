"""Seconds per segment and class of batch, through the back end protocol: what the daemon will run, as it will run it.

Every unit gets the tensors that really enter it (one pass through the chain makes them), because the time of some
operators depends on their values. Then each segment is measured on its own, and at last all units one after the other:
the whole against which the table is checked.

All of it is done in several passes, and what a segment got in each is put together, the same number of runs from every
pass. A machine has moods that last for seconds (a neighbour on the same core, a clock that moves): within one of them
runs agree and a narrow interval means nothing, but between passes they show. A device needs only what its daemon needs.
"""

from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from pamdi.calibration.median import Median, Rule, median_of, samples_of
from pamdi.calibration.table import Chain, Run
from pamdi.core.errors import EngineError
from pamdi.core.segment import Segment
from pamdi.engines.backend import Arrays, Backend
from pamdi.engines.manifest import Manifest

Pair = Tuple[int, int]
CHAIN = (-1, -1)
MIN_SECONDS = 1e-9  # a clock that did not move: shorter than it can tell, and not nothing


class Job(NamedTuple):
    """What is to be measured, and how: ``rule`` holds for each of ``passes``, ``clock`` is in seconds, ``say`` hears
    progress, one line a call."""

    backend: Backend
    folder: Path
    manifest: Manifest
    rule: Rule
    clock: Callable[[], float]
    say: Callable[[str], None]
    passes: int = 1


def calibrate(job: Job, pairs: Sequence[Pair], batches: Sequence[int]) -> Tuple[List[Run], List[Chain]]:
    """Medians of every unit and of every pair, and of the chain of units. Raises EngineError or BadInput."""
    units = [(unit, unit + 1) for unit in range(len(job.manifest.units))]
    wanted = units + sorted(set(pairs) - set(units), key=lambda pair: (pair[1] - pair[0], pair[0]))
    for first, stop in wanted:
        job.manifest.segment(first, stop)
    runs: List[Run] = []
    chains: List[Chain] = []
    for batch in sorted(set(batches)):
        _check_batch(job.manifest, batch)
        samples = _passes(job, units, wanted, batch)
        runs += [Run(first, stop, batch, *_positive(samples[first, stop])) for first, stop in wanted]
        chains.append(Chain(batch, *_positive(samples[CHAIN])))
    return runs, chains


def _passes(job: Job, units: Sequence[Pair], wanted: Sequence[Pair], batch: int) -> Dict[Pair, List[float]]:
    """Seconds of every run of each segment, and of the chain under the name ``CHAIN``."""
    entering = _entering(job, units, batch)
    samples: Dict[Pair, List[float]] = {}
    counts: Dict[Pair, int] = {}
    for number in range(1, job.passes + 1):
        for pair in [*wanted, CHAIN]:
            count = counts.get(pair, 0)
            found = _chain(job, units, entering[0], count) if pair == CHAIN else _segment(job, pair, entering, count)
            counts.setdefault(pair, len(found))
            samples.setdefault(pair, []).extend(found)
            what = "all units, one after the other" if pair == CHAIN else f"segment {pair[0]}:{pair[1]}"
            job.say(f"pass {number}/{job.passes}, batch {batch}, {what}: {_said(median_of(samples[pair]), job.rule)}")
    return samples


def first_inputs(manifest: Manifest, batch: int) -> Arrays:
    """Normal noise, the same on every call; zeros where whole numbers are wanted (every vocabulary has a word 0)."""
    noise = np.random.default_rng(0)
    made: Arrays = {}
    for tensor in manifest.boundaries[0]:
        shape = [size if isinstance(size, int) else batch for size in tensor.shape]
        whole = not tensor.dtype.startswith("float")
        made[tensor.name] = (
            np.zeros(shape, tensor.dtype) if whole else noise.standard_normal(shape).astype(tensor.dtype)
        )
    return made


def precision_of(manifest: Manifest, said: str) -> str:
    """What the back end says, or, where it runs segments as exported, the type of the tensors between units."""
    if said != "as exported":
        return said
    types = {tensor.dtype for boundary in manifest.boundaries for tensor in boundary}
    return "fp16" if "float16" in types else "fp32"


def _check_batch(manifest: Manifest, batch: int) -> None:
    for tensor in manifest.boundaries[0]:
        if tensor.shape[:1] != ("batch",) and batch != 1:
            raise EngineError(
                f"{manifest.model}: {tensor.name} has the fixed shape {list(tensor.shape)}: use --batch 1"
            )


def _entering(job: Job, units: Sequence[Pair], batch: int) -> List[Arrays]:
    """What enters each unit, by one pass; one segment is loaded at a time."""
    entering = [first_inputs(job.manifest, batch)]
    for first, stop in units:
        handle = job.backend.load(job.folder, Segment(job.manifest.model, first, stop))
        try:
            entering.append({name: np.array(array) for name, array in job.backend.run(handle, entering[-1]).items()})
        finally:
            job.backend.unload(handle)
    return entering


def _segment(job: Job, pair: Pair, entering: Sequence[Arrays], count: int) -> List[float]:
    handle = job.backend.load(job.folder, Segment(job.manifest.model, *pair))
    try:
        return samples_of(lambda: job.backend.run(handle, entering[pair[0]]), job.rule, job.clock, count)
    finally:
        job.backend.unload(handle)


def _chain(job: Job, units: Sequence[Pair], inputs: Arrays, count: int) -> List[float]:
    handles: Dict[Pair, object] = {}

    def once() -> None:
        tensors: Mapping[str, "np.ndarray"] = inputs
        for pair in units:
            tensors = job.backend.run(handles[pair], tensors)

    try:
        for pair in units:
            handles[pair] = job.backend.load(job.folder, Segment(job.manifest.model, *pair))
        return samples_of(once, job.rule, job.clock, count)
    finally:
        for handle in handles.values():
            job.backend.unload(handle)


def _positive(samples: Sequence[float]) -> Tuple[float, float, float, int]:
    found = median_of(samples)
    low, middle, high = (max(value, MIN_SECONDS) for value in (found.low_s, found.seconds, found.high_s))
    return middle, low, high, found.samples


def _said(found: Median, rule: Rule) -> str:
    short = "" if found.width <= rule.width else ", wider than asked"
    return f"{found.seconds * 1e3:.3f} ms, interval {found.width:.1%} wide{short}, {found.samples} runs"
