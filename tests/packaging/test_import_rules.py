"""Import rules that import-linter cannot say: what core may use at all, and what a running daemon has loaded."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Iterator

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "amqtt", "onnx", "onnxruntime", "rich", "sklearn", "torch", "pamdi.controller", "pamdi.demo", "pamdi.simulator",
)  # fmt: skip
PURE = {
    "__future__", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib", "heapq", "itertools",
    "json", "math", "operator", "re", "struct", "typing", "zlib",
}  # fmt: skip


def test_core_imports_msgspec_itself_and_the_pure_half_of_the_standard_library() -> None:
    imports = {name for path in (ROOT / "core").rglob("*.py") for name in _imports(path)}
    outside = {name for name in imports if not name.startswith("pamdi.core.") and name != "pamdi.core"}
    assert {name.split(".")[0] for name in outside} - PURE == {"msgspec"}


def test_importing_the_daemon_loads_nothing_heavy() -> None:
    assert _heavy_after("import pamdi.core, pamdi.daemon.main") == "[]"


def test_the_command_line_can_show_its_help_with_nothing_heavy_loaded() -> None:
    assert _heavy_after("from pamdi.cli.main import build_parser; build_parser().format_help()") == "[]"


def test_no_part_is_imported_by_its_bare_name() -> None:
    parts = {path.name for path in (ROOT / "src" / "pamdi").iterdir() if path.is_symlink()}
    files = [path for part in sorted(parts) for path in (ROOT / part).rglob("*.py")]
    assert len(files) > 50
    bare = [f"{path}: {name}" for path in files for name in _imports(path) if name.split(".")[0] in parts]
    assert bare == []


def _heavy_after(statement: str) -> str:
    script = f"{statement}\nimport sys; print([name for name in {HEAVY} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True)
    return told.stdout.strip()


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)
