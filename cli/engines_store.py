"""``pamdi engines list`` and ``inspect``: what a store holds, whether it is whole, and whether it fits this device."""

import argparse
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

from pamdi.cli.table import print_table
from pamdi.core.errors import EngineError


def list_store(arguments: argparse.Namespace) -> int:
    from pamdi.engines.manifest import FILE, read_manifest

    folder: Path = arguments.dir
    folders = [folder] if (folder / FILE).exists() else sorted(path.parent for path in folder.glob(f"*/{FILE}"))
    models: List[Dict[str, Any]] = []
    for one in folders or [folder]:
        manifest = read_manifest(one)
        models.append(
            {"model": manifest.model, "folder": str(one), "units": len(manifest.units),
             "source_sha256": manifest.source_sha256, "files": _files(one, manifest)}
        )  # fmt: skip
    sound = all(file["state"] == "good" for model in models for file in model["files"])
    if arguments.json:
        print(json.dumps({"sound": sound, "models": models}))
        return 0 if sound else 1
    for model in models:
        print(f"{model['model']}: {model['units']} units, from {model['source_sha256'][:12]}, in {model['folder']}")
        _print_files(model["files"])
    return 0 if sound else 1


def _files(folder: Path, manifest: Any) -> List[Dict[str, Any]]:
    """Every file that the manifest names, and whether it is what the manifest says."""
    from pamdi.engines.manifest import checked_file

    rows = []
    for info, name in [(s, s.onnx) for s in manifest.segments] + [(e, e.file) for e in manifest.engines]:
        state = "good"
        try:
            checked_file(folder, name, info.sha256)
        except EngineError as error:
            state = str(error).partition(": ")[2]
        size = (folder / name).stat().st_size if (folder / name).is_file() else None
        memory = sum(unit.memory_bytes for unit in manifest.units[info.first : info.stop])
        rows.append(
            {"first": info.first, "stop": info.stop, "file": name, "bytes": size, "memory_bytes": memory,
             "sha256": info.sha256, "state": state}
        )  # fmt: skip
    return rows


def _print_files(files: List[Dict[str, Any]]) -> None:
    table = [["segment", "file", "bytes", "weights", "sha256", "state"]]
    for file in files:
        size = "-" if file["bytes"] is None else str(file["bytes"])
        span = f"{file['first']}:{file['stop']}"
        table.append([span, file["file"], size, str(file["memory_bytes"]), file["sha256"][:12], file["state"]])
    print_table(table)


def inspect_model(arguments: argparse.Namespace) -> int:
    import msgspec

    from pamdi.daemon.host import memory_available_bytes
    from pamdi.engines.manifest import read_manifest

    manifest = read_manifest(arguments.dir)
    files = _files(arguments.dir, manifest)
    free = memory_available_bytes()
    for file in files:
        file["fits"] = None if free is None else file["memory_bytes"] <= free
    sound = all(file["state"] == "good" for file in files)
    if arguments.json:
        said = json.loads(msgspec.json.encode(manifest))
        print(json.dumps({**said, "files": files, "sound": sound, "memory_available_bytes": free}))
        return 0 if sound else 1
    print(f"{manifest.model}: from {manifest.source_sha256}")
    table = [["unit", "name", "operators", "bytes in", "weights", "MFLOP", "entering"]]
    for number, (unit, entering) in enumerate(zip(manifest.units, manifest.boundaries)):
        table.append(
            [str(number), unit.name, str(unit.operators), str(unit.bytes_in), str(unit.memory_bytes),
             f"{unit.flops / 1e6:.1f}", _tensors(entering)]
        )  # fmt: skip
    print_table(table)
    print(f"output: {_tensors(manifest.boundaries[-1])}\n")
    _print_files(files)
    tight = [f"{file['first']}:{file['stop']}" for file in files if file["fits"] is False]
    have = "how much memory is free is unavailable here" if free is None else f"{free} bytes of memory are free here"
    print(
        f"{have}; " + (f"too large for it: {', '.join(tight)}" if tight else "each segment's weights fit on their own")
    )
    return 0 if sound else 1


def _tensors(tensors: Sequence[Any]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype}{list(tensor.shape)}".replace("'", "") for tensor in tensors)
