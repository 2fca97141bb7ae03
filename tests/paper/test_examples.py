"""The paper's settings as files in examples/: they are what ``make paper`` runs, and ``pamdi simulate`` takes them."""

import pytest
from benchmarks.paper.examples import Example, examples, scenario_of, toml_of_example
from msgspec.structs import replace

from pamdi.simulator.run import simulate
from pamdi.simulator.scenario import read_scenario


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.path.name)
def test_the_file_is_what_the_benchmark_says(example: Example) -> None:
    assert example.path.read_text() == toml_of_example(example), "run python -m benchmarks.paper.examples"
    assert read_scenario(example.path) == scenario_of(example)


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.path.name)
def test_every_work_of_the_file_is_answered(example: Example) -> None:
    scenario = read_scenario(example.path)
    few = replace(scenario, arrivals=[replace(entry, count=10) for entry in scenario.arrivals])
    for run in simulate(few, ["as-if-alone"]):
        assert {id: figures.answered for id, figures in run.sources.items()} == {s.id: 10 for s in scenario.source}
