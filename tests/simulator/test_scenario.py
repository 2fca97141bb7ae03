"""scenario.toml: what it may say, and one line for everything that it may not."""

from pathlib import Path
from typing import Dict

import pytest

from pamdi.core.errors import ConfigError
from pamdi.simulator.scenario import read_scenario

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
[run]
seed = 1
policies = ["pa-mdi"]
[[device]]
id = "a"
type = "board"
memory_bytes = 1000
[[device]]
id = "b"
type = "board"
memory_bytes = 1000
[[mesh]]
devices = "all"
rate_bytes_per_s = 1e6
[[model]]
id = "net"
units = ["x", "y"]
bytes = [10, 10, 10]
memory = [1, 1]
[model.seconds]
board = [0.01, 0.01]
[[source]]
id = "gate"
model = "net"
device = "a"
rate_hz = 5.0
[[arrivals]]
source = "gate"
kind = "poisson"
count = 10
[[fault]]
at_s = 1.0
device = "b"
kind = "crash"
"""
WRONG: Dict[str, "tuple[str, str, str]"] = {
    "an unknown key of a fault": ('kind = "crash"', 'kind = "crash"\nwhith = ["a"]', "did you mean `with`"),
    "an unknown fault": ('kind = "crash"', 'kind = "flood"', "one of crash, restart"),
    "an unknown device": ('device = "b"\nkind', 'device = "z"\nkind', "there is no device 'z'"),
    "a partition from nobody": ('kind = "crash"', 'kind = "partition"', "with must name the other side"),
    "an unknown policy": ('policies = ["pa-mdi"]', 'policies = ["best"]', "policy 'best' is unknown"),
    "no policy": ('policies = ["pa-mdi"]', "policies = []", "name at least one"),
    "an unknown kind of arrivals": ('kind = "poisson"', 'kind = "bursts"', "one of poisson, periodic, backlog"),
    "an unknown source": ('source = "gate"', 'source = "gat"', "there is no such source"),
    "arrivals without an end": ("count = 10", "", "set count here, or duration_s"),
    "a window of nothing": ("count = 10", "count = 10\nwindow = 0", "window is 0"),
    "a window of what has none": ("count = 10", "count = 10\nwindow = 4", 'window is for kind "backlog"'),
    "no arrivals": (
        '[[arrivals]]\nsource = "gate"\nkind = "poisson"\ncount = 10', "", "add an [[arrivals]] with a source"
    ),
    "a rate of nothing": ("count = 10", "count = 10\nrate_hz = 0.0", "rate_hz is 0.0"),
    "unknown stations": ("seed = 1", 'seed = 1\nstations = "polite"', "one of priority, turns"),
    "unknown residents": ("seed = 1", 'seed = 1\nresidents = "some"', "one of all, plan"),
    "a negative time": ("seed = 1", "seed = 1\nsubmit_s = -1.0", "submit_s is -1.0"),
    "a fault in the fleet itself": ("board = [0.01, 0.01]", "board = [0.01]", "must be 2 positive numbers"),
}  # fmt: skip


def test_the_example_of_the_documents_is_read(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(GOOD)
    scenario = read_scenario(tmp_path / "s.toml")
    assert (scenario.run.policies, scenario.fault[0].kind, scenario.arrivals[0].count) == (["pa-mdi"], "crash", 10)


@pytest.mark.parametrize("what", sorted(WRONG))
def test_one_line_says_what_is_wrong_and_how_to_mend_it(what: str, tmp_path: Path) -> None:
    old, new, words = WRONG[what]
    assert old in GOOD
    (tmp_path / "s.toml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_scenario(tmp_path / "s.toml")
    line = str(caught.value)
    assert words in line and "\n" not in line and str(tmp_path / "s.toml") in line


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*scenario.toml")), ids=lambda path: path.name)
def test_every_example_is_a_scenario(path: Path) -> None:
    read_scenario(path)
