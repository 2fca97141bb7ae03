"""Which of TensorRT's names our code uses, read from its source, so that the list cannot go stale.

A variable stands for a class by its name (``builder`` is a Builder, ``config`` an IBuilderConfig, ...): the source
keeps to these names, and a name that stands for nothing here is no TensorRT object.
"""

import ast
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Set, Tuple

ENGINES = Path(__file__).parents[2] / "engines"
SOURCES = ("tensorrt_builder.py", "tensorrt_backend.py", "tensorrt_runs.py")
STANDS_FOR = {
    "builder": "Builder", "network": "INetworkDefinition", "config": "IBuilderConfig", "parser": "OnnxParser",
    "profile": "IOptimizationProfile", "cache": "ITimingCache", "engine": "ICudaEngine", "inspector": "EngineInspector",
    "tensor": "ITensor", "fault": "ParserError", "context": "IExecutionContext",
}  # fmt: skip


class Used(NamedTuple):
    """``names``: attributes of the module, as ``Class`` or ``Enum.MEMBER``. ``members``: (class, attribute, number of
    arguments it is called with, None where it is not called)."""

    names: Set[str]
    members: Set[Tuple[str, str, Optional[int]]]


def used_api() -> Used:
    used = Used(set(), set())
    for source in SOURCES:
        tree = ast.parse((ENGINES / source).read_text(encoding="utf-8"))
        calls: Dict[int, Optional[int]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                starred = any(isinstance(one, ast.Starred) for one in node.args)
                calls[id(node.func)] = None if starred else len(node.args)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                _note(node, calls, used)
    return used


def _note(node: ast.Attribute, calls: Dict[int, Optional[int]], used: Used) -> None:
    inner = node.value
    if isinstance(inner, ast.Attribute) and inner.attr == "_runtime":
        used.members.add(("Runtime", node.attr, calls.get(id(node))))
    if isinstance(inner, ast.Name) and inner.id in STANDS_FOR:
        used.members.add((STANDS_FOR[inner.id], node.attr, calls.get(id(node))))
    elif isinstance(inner, ast.Name) and inner.id == "trt":
        used.names.add(node.attr)
    elif isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "trt":
        used.names.add(f"{inner.attr}.{node.attr}")
