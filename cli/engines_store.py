"""``pamdi engines list``, ``inspect``, ``serve`` and ``sign``: what a store holds, whether it is whole and fits this
device, and how others get it and trust it."""

import argparse
import json
import sys
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
             "source_sha256": manifest.source_sha256,
             "signed_by": [entry.get("key", "") for entry in manifest.signatures], "files": _files(one, manifest)}
        )  # fmt: skip
    sound = all(_is_sound(model["files"]) for model in models)
    if arguments.json:
        print(json.dumps({"sound": sound, "models": models}))
        return 0 if sound else 1
    for model in models:
        by = ", ".join(model["signed_by"]) or "nobody"
        source = model["source_sha256"][:12]
        print(f"{model['model']}: {model['units']} units, from {source}, signed by {by}, in {model['folder']}")
        _print_files(model["files"])
    return 0 if sound else 1


def _files(folder: Path, manifest: Any) -> List[Dict[str, Any]]:
    """Every segment and engine that the manifest names, and whether its file and the weights that it reads are what
    the manifest says; "not pulled" where a device did not need it."""
    from pamdi.engines.manifest import checked_file, checked_segment
    from pamdi.engines.store import PULLED

    pulled = (folder / PULLED).is_file()
    rows = []
    if manifest.half:
        rows.append(_half_row(folder, manifest, pulled))
    for info in [*manifest.segments, *manifest.engines]:
        name = getattr(info, "file", None) or info.onnx
        state = "good"
        try:
            if hasattr(info, "onnx"):
                checked_segment(folder, manifest, info)
            else:
                checked_file(folder, name, info.sha256)
        except EngineError as error:
            state = str(error).partition(": ")[2]
        there = (folder / name).is_file()
        memory = sum(unit.memory_bytes for unit in manifest.units[info.first : info.stop])
        rows.append(
            {"first": info.first, "stop": info.stop, "kind": _kind(info), "file": name,
             "bytes": (folder / name).stat().st_size if there else None, "memory_bytes": memory,
             "sha256": info.sha256, "state": "not pulled" if pulled and not there else state}
        )  # fmt: skip
    return rows


def _half_row(folder: Path, manifest: Any, pulled: bool) -> Dict[str, Any]:
    from pamdi.engines.manifest import HALF, checked_file

    path, state = folder / HALF, "good"
    try:
        checked_file(folder, HALF, manifest.half)
    except EngineError as error:
        state = str(error).partition(": ")[2]
    return {
        "first": 0, "stop": len(manifest.units), "kind": "what FP16 cost", "file": HALF,
        "bytes": path.stat().st_size if path.is_file() else None, "memory_bytes": 0, "sha256": manifest.half,
        "state": "not pulled" if pulled and not path.is_file() else state,
    }  # fmt: skip


def _kind(info: Any) -> str:
    return "onnx" if hasattr(info, "onnx") else f"{info.backend} {info.precision} for {info.device_type}"


def _is_sound(files: List[Dict[str, Any]]) -> bool:
    return all(file["state"] in ("good", "not pulled") for file in files)


def _print_files(files: List[Dict[str, Any]]) -> None:
    table = [["segment", "kind", "file", "bytes", "weights", "sha256", "state"]]
    for file in files:
        size = "-" if file["bytes"] is None else str(file["bytes"])
        span = f"{file['first']}:{file['stop']}"
        table.append(
            [span, file["kind"], file["file"], size, str(file["memory_bytes"]), file["sha256"][:12], file["state"]]
        )
    print_table(table)


def serve_store(arguments: argparse.Namespace) -> int:
    from pamdi.engines.serve import serve

    serve(
        arguments.dir, arguments.host, arguments.port, lambda line: print(line, file=sys.stderr, flush=True),
        arguments.cert, arguments.key,
    )  # fmt: skip
    return 0


def sign_model(arguments: argparse.Namespace) -> int:
    from pamdi.engines.manifest import FILE, manifest_of, read_manifest, write_document
    from pamdi.engines.seal import private_key, public_text, signed

    read_manifest(arguments.dir)
    document = json.loads((arguments.dir / FILE).read_bytes())
    key = private_key(arguments.key)
    write_document(arguments.dir, signed(document, key))
    manifest = manifest_of((arguments.dir / FILE).read_bytes(), str(arguments.dir), (public_text(key),))
    if arguments.json:
        print(json.dumps({"model": manifest.model, "key": public_text(key)}))
    else:
        print(f'{manifest.model}: signed; on devices: trusted_keys = ["{public_text(key)}"]')
    return 0


def inspect_model(arguments: argparse.Namespace) -> int:
    import msgspec

    from pamdi.daemon.host import memory_available_bytes
    from pamdi.engines.manifest import read_manifest

    manifest = read_manifest(arguments.dir)
    files = _files(arguments.dir, manifest)
    free = memory_available_bytes()
    for file in files:
        file["fits"] = None if free is None else file["memory_bytes"] <= free
    sound = _is_sound(files)
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
