"""The paper's settings as files for ``pamdi simulate``: ``python -m benchmarks.paper.examples`` writes them anew.

A test compares the files with this, so that they say what ``make paper`` runs. What has its default is left out.
"""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import msgspec

from benchmarks.paper.all_settings import headline, variations
from benchmarks.paper.settings import Setting
from benchmarks.paper.sweep import WORKS, loaded
from pamdi.simulator.scenario import Scenario
from pamdi.simulator.toml_text import text_of

FOLDER = Path(__file__).resolve().parents[2] / "examples"
POLICIES = ["as-if-alone", "pa-mdi", "ms-mdi"]


class Example(NamedTuple):
    """``rate_hz``: of all sources together; None: all works as good as at once."""

    setting: Setting
    rate_hz: "float | None"
    said: str

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.setting.name.replace(' ', '-').lower()}.scenario.toml"


def examples() -> List[Example]:
    mesh, multihop, text, *_ = headline()
    demo = variations()[0]
    return [
        Example(mesh, 9.5, "0.9 of what MS-MDI gets through"),
        Example(multihop, 5.1, "0.9 of what MS-MDI gets through"),
        Example(text, 17.7, "0.9 of what MS-MDI gets through"),
        Example(demo, None, "100 works of each source as good as at once, as in the published demo"),
    ]


def scenario_of(example: Example) -> Scenario:
    scenario = loaded(example.setting.fleet, example.rate_hz, works=WORKS)
    return msgspec.structs.replace(scenario, run=msgspec.structs.replace(scenario.run, policies=POLICIES))


def toml_of_example(example: Example) -> str:
    name, title = example.path.name, example.setting.title
    head = [
        f"# {title}, of the paper: {example.said}.",
        f"# pamdi simulate examples/{name} --policy {','.join(POLICIES)}",
        "# Written by benchmarks/paper/examples.py; what is assumed is in benchmarks/paper/assumed.py.",
        "# A radio without priority between stations: stations = \"turns\" in [run].",
        "",
    ]  # fmt: skip
    return "\n".join(head) + "\n" + text_of(_without_defaults(scenario_of(example)))


def _without_defaults(struct: msgspec.Struct) -> Dict[str, Any]:
    """As plain values, under the names of the file."""
    found: Dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if field.default is not msgspec.NODEFAULT and value == field.default:
            continue
        if field.default_factory is not msgspec.NODEFAULT and value == field.default_factory():
            continue
        found[field.encode_name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _without_defaults(value)
    return [_plain(each) for each in value] if isinstance(value, list) else value


def main() -> None:
    for example in examples():
        example.path.write_text(toml_of_example(example), encoding="utf-8")
        print(example.path)


if __name__ == "__main__":
    main()
