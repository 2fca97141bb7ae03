"""The sample configurations are read by the code that they configure, and README's links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pamdi.client.toml_file import read_toml
from pamdi.controller.config import ControllerConfig
from pamdi.core.errors import EngineError
from pamdi.daemon.config import read_config
from pamdi.engines.export import OURS, export

ROOT = Path(__file__).resolve().parents[1]


def test_the_sample_daemon_toml_is_accepted() -> None:
    assert read_config(ROOT / "examples" / "daemon.toml").id


def test_the_sample_controller_toml_is_accepted() -> None:
    assert read_toml(ROOT / "examples" / "controller.toml", ControllerConfig).broker.url


@pytest.mark.parametrize("page", sorted(p.name for p in ROOT.glob("*.md")))
def test_links_in_a_page_lead_to_files_that_exist(page: str) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_has_help_with_an_example() -> None:
    commands = ["demo", "status", "doctor", "submit", "cancel", "drain", "reallocate", "daemon", "controller"]
    commands += ["simulate"]
    commands += [f"engines {verb}" for verb in ("cut", "export", "verify", "list", "inspect", "build")]
    commands += [f"calibrate {verb}" for verb in ("latency", "links", "precision")]
    for command in commands:
        words = [sys.executable, "-m", "pamdi", *command.split(), "--help"]
        shown = subprocess.run(words, capture_output=True, text=True, check=False)
        assert shown.returncode == 0 and "example:" in shown.stdout, command


def test_wrong_use_is_exit_2() -> None:
    for words in ([], ["nonsense"], ["submit"], ["demo", "--works", "many"]):
        done = subprocess.run([sys.executable, "-m", "pamdi", *words], capture_output=True, check=False)
        assert done.returncode == 2, words


@pytest.mark.skipif(not Path("/proc/mounts").exists(), reason="needs a tmpfs")
def test_a_full_disk_for_the_store_is_one_line_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs here (not root)")
    try:
        with pytest.raises(EngineError, match="No space left on device: make room"):
            export(OURS["resnet56"], small / "store", "m", units=2)
        left = [path.name for path in (small / "store").iterdir()]
        assert "model.json" not in left and not [name for name in left if name.startswith(".writing")]
    finally:
        subprocess.run(["umount", str(small)], check=True)
