"""What is measured of a model: every unit, the segments asked for, the chain; on a clock that the back end moves."""

from typing import List

import pytest

from pamdi.calibration.latency import Job, calibrate, first_inputs, precision_of
from pamdi.calibration.median import Rule
from pamdi.calibration.table import Chain, Run
from pamdi.core.errors import EngineError
from pamdi.engines.manifest import Manifest, read_manifest
from tests.calibration.made import TimedBackend
from tests.daemon.running import MODEL, STORE

FOLDER = STORE / MODEL


def job_of(backend: TimedBackend, said: List[str], manifest: Manifest) -> Job:
    return Job(backend, FOLDER, manifest, Rule(warm_runs=1, warm_s=0.0), backend.clock, said.append)


def rounded(entry: "Run | Chain") -> "tuple[float, ...]":
    first = (entry.first, entry.stop) if isinstance(entry, Run) else ()
    return (*first, entry.batch, round(entry.seconds, 6))


def test_units_and_the_chain_at_every_batch_and_everything_is_unloaded() -> None:
    backend = TimedBackend([0.001, 0.002, 0.003, 0.004], slow_every=9)
    said: List[str] = []
    runs, chains = calibrate(job_of(backend, said, read_manifest(FOLDER)), [], [2, 1])
    assert [rounded(run) for run in runs] == [
        (unit, unit + 1, batch, (unit + 1) * batch / 1000) for batch in (1, 2) for unit in range(4)
    ]
    assert [rounded(chain) for chain in chains] == [(1, 0.01), (2, 0.02)]
    assert set(backend.loaded.values()) == {0}
    assert len(said) == 10 and "pass 1/1, batch 1, segment 0:1: 1.000 ms" in said[0]


def test_a_mood_that_lasts_a_whole_pass_shows_in_the_interval_and_not_in_the_median() -> None:
    backend = TimedBackend([0.001] * 4)
    said: List[str] = []

    def say(line: str) -> None:
        said.append(line)
        backend.factor = 3.0 if "pass 1/3" in line and "segment 1:2" in line else 1.0

    job = job_of(backend, said, read_manifest(FOLDER))._replace(say=say, passes=3)
    runs, chains = calibrate(job, [], [1])
    assert [(run.samples, round(run.seconds, 6)) for run in runs] == [(36, 0.001)] * 4
    assert [round(run.high_s or 0.0, 6) for run in runs] == [0.001, 0.001, 0.003, 0.001] and chains[0].samples == 36
    assert any("segment 2:3: 3.000 ms" in line for line in said)


def test_the_precision_is_what_lies_between_the_units() -> None:
    manifest = read_manifest(FOLDER)
    assert [precision_of(manifest, "as exported"), precision_of(manifest, "int8")] == ["fp32", "int8"]


def test_a_segment_that_was_not_exported_is_refused_before_anything_is_measured() -> None:
    backend = TimedBackend([0.001] * 4)
    said: List[str] = []
    with pytest.raises(EngineError, match="no segment 0:2 here"):
        calibrate(job_of(backend, said, read_manifest(FOLDER)), [(0, 2)], [1])
    assert (said, backend.loaded) == ([], {})


def test_inputs_are_the_same_on_every_call_and_have_the_batch_asked_for() -> None:
    manifest = read_manifest(FOLDER)
    first, second = first_inputs(manifest, 3), first_inputs(manifest, 3)
    assert {name: array.shape for name, array in first.items()} == {"image": (3, 3, 32, 32)}
    assert all((first[name] == second[name]).all() for name in first)
