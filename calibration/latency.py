"""Seconds per segment and class of batch, through the back end protocol: what the daemon will run, as it will run it.

Every unit gets the tensors that really enter it (one pass through the chain makes them), because the time of some
operators depends on their values. Then each segment is measured on its own, and at last all units one after the other:
the whole against which the table is checked. A device needs only what its daemon needs.
"""

from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from pamdi.calibration.median import Median, Rule, measure
from pamdi.calibration.table import Chain, Run
from pamdi.core.errors import EngineError
from pamdi.core.segment import Segment
from pamdi.engines.backend import Arrays, Backend
from pamdi.engines.manifest import Manifest

Pair = Tuple[int, int]
MIN_SECONDS = 1e-9  # a clock that did not move: shorter than it can tell, and not nothing


class Job(NamedTuple):
    """What is to be measured, and how: ``clock`` in seconds, ``say`` hears progress, one line a call."""

    backend: Backend
    folder: Path
    manifest: Manifest
    rule: Rule
    clock: Callable[[], float]
    say: Callable[[str], None]


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
        entering = _entering(job, units, batch)
        for number, pair in enumerate(wanted, 1):
            found = _segment(job, pair, entering[pair[0]])
            runs.append(Run(pair[0], pair[1], batch, *_positive(found)))
            job.say(_progress(f"{number}/{len(wanted)} segment {pair[0]}:{pair[1]}", batch, found, job.rule))
        found = _chain(job, units, entering[0])
        chains.append(Chain(batch, *_positive(found)))
        job.say(_progress("all units, one after the other", batch, found, job.rule))
    return runs, chains


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


def _segment(job: Job, pair: Pair, tensors: Arrays) -> Median:
    handle = job.backend.load(job.folder, Segment(job.manifest.model, *pair))
    try:
        return measure(lambda: job.backend.run(handle, tensors), job.rule, job.clock)
    finally:
        job.backend.unload(handle)


def _chain(job: Job, units: Sequence[Pair], inputs: Arrays) -> Median:
    handles: Dict[Pair, object] = {}

    def once() -> None:
        tensors = inputs
        for pair in units:
            tensors = job.backend.run(handles[pair], tensors)

    try:
        for pair in units:
            handles[pair] = job.backend.load(job.folder, Segment(job.manifest.model, *pair))
        return measure(once, job.rule, job.clock)
    finally:
        for handle in handles.values():
            job.backend.unload(handle)


def _positive(found: Median) -> Tuple[float, float, float, int]:
    low, middle, high = (max(value, MIN_SECONDS) for value in (found.low_s, found.seconds, found.high_s))
    return middle, low, high, found.samples


def _progress(what: str, batch: int, found: Median, rule: Rule) -> str:
    short = "" if found.width <= rule.width else f"; stopped at the limit of {rule.seconds_max:g} s"
    measured = f"{found.seconds * 1e3:.3f} ms, interval {found.width:.1%} wide, {found.samples} runs"
    return f"{what}, batch {batch}: {measured}{short}"
