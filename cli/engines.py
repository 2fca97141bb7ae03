"""``pamdi engines``: cut points, ONNX segments, what is in a store and whether it is the model it claims to be."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from pamdi.core.errors import EngineError


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("engines", help="cut, export, verify and list models")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    cut = _verb(verbs, "cut", _cut, "where a model can be cut, and what each cut costs", "pamdi engines cut resnet56")
    cut.add_argument("model", help="resnet56, or the path of an .onnx file")
    cut.add_argument("--units", type=int, metavar="N", help="merge into N units, balanced by arithmetic")
    export = _verb(
        verbs, "export", _export, "an ONNX file per segment, and model.json",
        "pamdi engines export resnet56 --out store/resnet56 --units 8",
    )  # fmt: skip
    export.add_argument("model", help="resnet56, or the path of an .onnx file")
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.add_argument("--units", type=int, metavar="N", help="merge into N units (default: every cut point)")
    export.add_argument("--name", help="the model's id in the fleet (default: the name of DIR)")
    export.add_argument("--segments", metavar="0:4,4:9,...|all", help="default: every unit; all: every contiguous run")
    verify = _verb(
        verbs, "verify", _verify, "chained segments against the uncut model", "pamdi engines verify store/resnet56"
    )
    verify.add_argument("dir", type=Path)
    verify.add_argument("--model", help="the uncut model (default: resnet56 where the digests agree)")
    verify.add_argument("--inputs", type=Path, metavar="FILE", help=".npz by input name (default: random numbers)")
    for name, what in (("list", "what is in a store"), ("inspect", "everything the manifest says")):
        verb = _verb(verbs, name, _list, what, f"pamdi engines {name} store/resnet56")
        verb.add_argument("dir", type=Path)
    build = _verb(
        verbs, "build", _build, "engines for a device type",
        "pamdi engines build store/resnet56 --device orin-nano --backend onnxruntime",
    )  # fmt: skip
    build.add_argument("dir", type=Path)
    build.add_argument("--device", required=True, metavar="TYPE")
    build.add_argument("--backend", default="tensorrt")


def _verb(verbs: Any, name: str, run: Any, help: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help, epilog=f"example: {example}")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.set_defaults(run=run)
    return parser


def _cut(arguments: argparse.Namespace) -> int:
    from pamdi.engines.cuts import cut, group, load_model
    from pamdi.engines.export import model_path

    model = cut(load_model(model_path(arguments.model)))
    if arguments.units is not None:
        model = group(model, arguments.units)
    entering = model.units[0].entering.item_bytes
    rows: List[Dict[str, Any]] = [
        {
            "unit": number, "name": unit.name, "operators": len(unit.nodes), "bytes_in": unit.entering.item_bytes,
            "memory_bytes": unit.memory_bytes, "flops": unit.flops, "wider_than_input": unit.entering.item_bytes > entering,
        }
        for number, unit in enumerate(model.units)
    ]  # fmt: skip
    if arguments.json:
        print(json.dumps({"model": arguments.model, "units": rows, "bytes_out": model.outputs[0].item_bytes}))
        return 0
    table = [["unit", "first operator", "operators", "bytes in", "memory", "MFLOP", ""]]
    for row in rows:
        mark = "costs more than the input" if row["wider_than_input"] else ""
        flops = f"{row['flops'] / 1e6:.1f}"
        table.append(
            [str(row["unit"]), str(row["name"]), str(row["operators"]), str(row["bytes_in"]), str(row["memory_bytes"]),
             flops, mark]
        )  # fmt: skip
    _print_table(table)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from pamdi.engines.export import export, model_path

    path = model_path(arguments.model)
    name = arguments.name or arguments.out.resolve().name
    pairs = _pairs(arguments.segments, path, arguments.units)
    manifest = export(path, arguments.out, name, arguments.units, pairs, lambda line: print(line, file=sys.stderr))
    total = sum((arguments.out / segment.onnx).stat().st_size for segment in manifest.segments)
    if arguments.json:
        print(
            json.dumps(
                {"model": name, "units": len(manifest.units), "segments": len(manifest.segments), "bytes": total}
            )
        )
    else:
        print(
            f"{name}: {len(manifest.units)} units, {len(manifest.segments)} segments, {total} bytes in {arguments.out}"
        )
    return 0


def _pairs(text: Optional[str], path: Path, units: Optional[int]) -> Optional[Sequence[Tuple[int, int]]]:
    if text is None:
        return None
    if text == "all":
        from pamdi.engines.cuts import cut, load_model

        count = units if units is not None else len(cut(load_model(path)).units)
        return [(first, stop) for first in range(count) for stop in range(first + 1, count + 1)]
    try:
        return [(int(first), int(stop)) for first, stop in (part.split(":") for part in text.split(","))]
    except ValueError as error:
        raise EngineError(f"--segments {text}: write FIRST:STOP,FIRST:STOP,... or all") from error


def _verify(arguments: argparse.Namespace) -> int:
    from pamdi.engines.export import OURS, model_path
    from pamdi.engines.manifest import read_manifest, sha256_of
    from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
    from pamdi.engines.verify import compare, covering_chain, random_inputs, run_chain, run_uncut

    manifest = read_manifest(arguments.dir)
    path = model_path(arguments.model) if arguments.model else OURS["resnet56"]
    if sha256_of(path) != manifest.source_sha256:
        raise EngineError(f"{arguments.dir} was not exported from {path}: give its model with --model")
    inputs = _load_inputs(arguments.inputs) if arguments.inputs else random_inputs(manifest)
    pairs = covering_chain(manifest)
    rows = []
    for optimisation in ("off", "all"):
        backend = OnnxRuntimeBackend(1, optimisation)
        difference = compare(run_chain(backend, arguments.dir, pairs, inputs), run_uncut(backend, path, inputs))
        rows.append({"optimisation": optimisation, **difference._asdict()})
    good = bool(rows[0]["identical"])
    if arguments.json:
        print(json.dumps({"model": manifest.model, "segments": len(pairs), "runs": rows}))
    else:
        for row in rows:
            said = "bit for bit the uncut model" if row["identical"] else "not bit for bit"
            print(
                f"optimisation {row['optimisation']}: {len(pairs)} chained segments are {said}; largest difference "
                f"{row['largest_absolute']:.3g} absolute, {row['largest_relative']:.3g} relative"
            )
    return 0 if good else 1


def _load_inputs(path: Path) -> Any:
    import numpy as np

    try:
        with np.load(path) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError) as error:
        raise EngineError(f"{path}: not an .npz file of inputs by name: {error}") from error


def _list(arguments: argparse.Namespace) -> int:
    import msgspec

    from pamdi.engines.manifest import checked_file, read_manifest

    manifest = read_manifest(arguments.dir)
    if arguments.json:
        print(msgspec.json.encode(manifest).decode())
        return 0
    table = [["segment", "file", "bytes", "sha256", "state"]]
    sound = True
    for segment in manifest.segments:
        path = arguments.dir / segment.onnx
        try:
            checked_file(arguments.dir, segment.onnx, segment.sha256)
            state = "good"
        except EngineError as error:
            state, sound = str(error).partition(": ")[2], False
        size = str(path.stat().st_size) if path.exists() else "-"
        table.append([f"{segment.first}:{segment.stop}", segment.onnx, size, segment.sha256[:12], state])
    print(f"{manifest.model}: {len(manifest.units)} units, from {manifest.source_sha256[:12]}")
    _print_table(table)
    return 0 if sound else 1


def _build(arguments: argparse.Namespace) -> int:
    from pamdi.engines.manifest import read_manifest
    from pamdi.engines.open_backend import open_backend

    read_manifest(arguments.dir)
    open_backend(arguments.backend)
    print(
        f"{arguments.backend} runs the exported segments as they are: there is nothing to build for {arguments.device}"
    )
    return 0


def _print_table(rows: List[List[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0], box=box.SIMPLE_HEAD)
    for row in rows[1:]:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
