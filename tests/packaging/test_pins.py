"""What ``make`` installs on a Python that it may pick is pinned: by name, in that Python's file."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def names(text: str) -> "set[str]":
    return {re.split(r"[=<>;\s]", line)[0].lower().replace("_", "-") for line in text.splitlines() if line}


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_what_the_tools_and_make_paper_need_is_pinned(version: str) -> None:
    pinned = names((ROOT / "constraints" / f"py{version}.txt").read_text())
    wanted = {"matplotlib", "pillow", "contourpy", "numpy", "msgspec", "mypy", "ruff", "pytest", "onnxruntime"}
    assert wanted - pinned == set()
