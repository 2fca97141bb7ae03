"""The wheel, as a device would install it: what is in it, and whether it works where the checkout is not."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email import message_from_string
from pathlib import Path
from typing import Set

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINKS = sorted(path for path in (ROOT / "src" / "pamdi").iterdir() if path.is_symlink())
PARTS = [path.name for path in LINKS]
HEAVY = {"amqtt", "onnx", "onnxruntime", "rich", "scikit-learn", "torch"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that an old build/ adds nothing and the checkout stays clean."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for part in PARTS:
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "src" / "pamdi", copy / "src" / "pamdi", symlinks=True)
    out = copy / "dist"
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(copy),
    ]
    subprocess.run(command, check=True)
    return next(out.glob("*.whl"))


def test_every_link_leads_to_the_part_of_its_name_wherever_the_checkout_is() -> None:
    assert {"core", "daemon", "engines", "controller", "client", "cli", "demo", "simulator"} <= set(PARTS)
    assert [str(os.readlink(path)) for path in LINKS] == [f"../../{part}" for part in PARTS]
    assert [part for part in PARTS if not (ROOT / part / "__init__.py").is_file()] == []


def test_pamdi_is_the_only_name_that_the_wheel_adds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"pamdi"}


def test_every_module_of_every_linked_part_is_in_the_wheel(wheel: Path) -> None:
    expected = {f"pamdi/{part}/{path.relative_to(ROOT / part)}" for part in PARTS for path in _modules(ROOT / part)}
    with zipfile.ZipFile(wheel) as archive:
        assert expected - set(archive.namelist()) == set()
    assert "pamdi/core/policy/pa_mdi.py" in expected


def test_the_model_and_the_typing_marker_travel_with_the_code(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    models = {f"pamdi/engines/models/{path.name}" for path in (ROOT / "engines" / "models").iterdir()}
    assert models | {"pamdi/py.typed"} <= names


def test_a_plain_install_needs_nothing_heavy(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        headers = message_from_string(archive.read(metadata).decode())
    lines = [line for line in headers.get_all("Requires-Dist", []) if "extra" not in line]
    required = {found.group() for found in (re.match(r"[\w-]+", line) for line in lines) if found is not None}
    assert required == {"aiomqtt", "msgspec", "numpy", "paho-mqtt", "tomli", "uvloop"}
    assert required & HEAVY == set()
    assert headers["Requires-Python"] == ">=3.8"


def test_the_wheel_works_in_a_fresh_venv(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "-q", "--no-deps"]
    subprocess.run([*pip, str(wheel)], check=True)
    # The dependencies come from here: links into this checkout do not, because PYTHONPATH reads no .pth file.
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
    script = "import pamdi.core.device, pamdi.daemon.main; print(pamdi.__file__)"
    told = _output([str(venv / "bin" / "python"), "-c", script], environment, tmp_path)
    assert Path(told.strip()).is_relative_to(venv)
    assert _output([str(venv / "bin" / "pamdi"), "--version"], environment, tmp_path).startswith("pamdi ")


def test_the_pip_of_jetpack_5_can_read_pyproject() -> None:
    """It knows TOML 0.4: a dotted key ends the installation with a traceback."""
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.match(r"""["'\w-]+\s*\.\s*["'\w-]+.*=""", line)] == []


def _output(command: "list[str]", environment: "dict[str, str]", folder: Path) -> str:
    return subprocess.run(command, check=True, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True).stdout


def _modules(part: Path) -> Set[Path]:
    return {path for path in part.rglob("*.py") if (part / "__init__.py").exists()}
