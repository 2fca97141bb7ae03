"""What a person calls a model, and the ONNX file that is meant: the one door from MODEL to a path.

A name is ours (kept in ``models/``), or one that transformers ships as code, or the path of an ``.onnx`` file, or a
local Hugging Face directory. Those that torch must export are made once and kept in a cache folder, under a name that
says everything that decides their content, so that a second call finds them and an interrupted one leaves nothing.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple

from pamdi.core.errors import EngineError

MODELS = Path(__file__).resolve().parent / "models"
OURS = {"resnet56": MODELS / "resnet56-digits.onnx"}
SHIPPED_AS_CODE = ("resnet50", "gpt2")
FAMILIES = ("resnet", "gpt2")
CACHE = ".uncut"  # beside an export
SEQUENCE = 64  # tokens
SEED = 0
KEY_DIGITS = 16


def _silent(line: str) -> None:
    """Nobody listens."""


class Making(NamedTuple):
    """How a model that is not a file yet is made. ``cache``: where it is kept; ``sequence``: GPT-2's fixed number of
    tokens; ``seed``: of random weights, where no directory gives real ones; ``say``: progress, one line a call."""

    cache: Path = Path("~/.cache/pamdi")
    sequence: int = SEQUENCE
    seed: int = SEED
    say: Callable[[str], None] = _silent


def beside(out: Path) -> Path:
    """The cache folder of what is exported to ``out``."""
    return out.resolve().parent / CACHE


def model_path(name: str, making: Making = Making()) -> Path:
    """The ONNX file of a model by name, made if need be, or ``name`` as a path. Raises EngineError in one line."""
    if name in OURS:
        return OURS[name]
    if name in SHIPPED_AS_CODE:
        making.say(
            f"{name}: random weights, seed {making.seed}; for trained ones give a local Hugging Face directory as MODEL"
        )
        return _made(name, {"name": name, "seed": making.seed}, making)
    path = Path(name)
    return _made(path.resolve().name, _directory(path), making) if path.is_dir() else path


def _directory(folder: Path) -> Dict[str, Any]:
    """What decides the content of an export of a Hugging Face directory. Raises EngineError for another family."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        family = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"{folder}: not a Hugging Face model directory (config.json cannot be used): give one, or an .onnx file"
        ) from error
    if family not in FAMILIES:
        raise EngineError(
            f"{folder}: model_type {family!r} is not among {', '.join(FAMILIES)}: export it to ONNX and give that file"
        )
    files = sorted(
        path for path in folder.iterdir() if path.is_file() and path.suffix in (".json", ".safetensors", ".bin")
    )
    return {"directory": str(folder.resolve()), "files": {path.name: _digest(path) for path in files}}


def _digest(path: Path) -> str:
    from pamdi.engines.manifest import sha256_of

    try:
        return sha256_of(path)
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror}: make it readable") from error


def _made(stem: str, content: Dict[str, Any], making: Making) -> Path:
    """The cached export of ``content``, made now if it is absent."""
    from pamdi.engines.torch_export import export_with_torch, versions

    files = content.get("files", {})
    decides = {**content, "directory": None, "sequence": making.sequence, "versions": versions(), "files": files}
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]
    path = Path(os.path.expanduser(making.cache)) / f"{stem}-{key}.onnx"
    if path.is_file():
        making.say(f"{stem}: taken from {path}")
        return path
    export_with_torch(content, path, making.sequence, making.say)
    return path
