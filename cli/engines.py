"""``pamdi engines``: cut points, ONNX segments, what is in a store and whether it is the model it claims to be.

``cut`` and ``export`` need onnx and run on a desk; the others run on a device too, with what the daemon needs.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from pamdi.cli.build import add_build, add_half, run_build, run_half
from pamdi.cli.engines_store import inspect_model, list_store, serve_store, sign_model
from pamdi.core.errors import EngineError


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("engines", help="cut, export, verify and list models")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    cut = _verb(verbs, "cut", _cut, "where a model can be cut, and what each cut costs", "pamdi engines cut resnet56")
    _add_model(cut)
    cut.add_argument("--units", type=int, metavar="N", help="merge into N units, balanced by arithmetic")
    export = _verb(
        verbs, "export", _export, "an ONNX file per segment, and model.json",
        "pamdi engines export resnet56 --out store/resnet56 --units 8",
    )  # fmt: skip
    _add_model(export)
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.add_argument("--bytes-max", type=int, metavar="BYTES", help="what the store may hold (default: the disk)")
    export.add_argument("--units", type=int, metavar="N", help="merge into N units (default: every cut point)")
    export.add_argument("--name", help="the model's id in the fleet (default: the name of DIR)")
    export.add_argument("--segments", metavar="0:4,4:9,...|all", help="default: every unit; all: every contiguous run")
    verify = _verb(
        verbs, "verify", _verify, "chained segments against the uncut model", "pamdi engines verify store/resnet56"
    )
    verify.add_argument("dir", type=Path)
    verify.add_argument("--model", help="the uncut model (default: the one with the manifest's digest, found)")
    verify.add_argument("--random", type=int, metavar="N", help="also N cut sets drawn at random, exported for it")
    _add_making(verify)
    verify.add_argument("--inputs", type=Path, metavar="FILE", help=".npz by input name (default: random numbers)")
    listing = _verb(
        verbs, "list", list_store, "what is in a store, and whether it is whole", "pamdi engines list store"
    )
    listing.add_argument("dir", type=Path, help="a model's folder, or a store of them")
    inspect = _verb(
        verbs, "inspect", inspect_model, "a model's units and segments, and whether each fits this device",
        "pamdi engines inspect store/resnet56",
    )  # fmt: skip
    inspect.add_argument("dir", type=Path, help="a model's folder")
    serving = _verb(
        verbs, "serve", serve_store, "serve a store over HTTP or HTTPS to daemons that have store_url",
        "pamdi engines serve store --port 8080",
    )  # fmt: skip
    serving.add_argument("dir", type=Path, help="a model's folder, or a store of them")
    serving.add_argument("--host", default="0.0.0.0")
    serving.add_argument("--port", type=int, default=8080)
    serving.add_argument("--cert", type=Path, help="certificate file: serve HTTPS")
    serving.add_argument("--key", type=Path, help="the certificate's key")
    sign = _verb(
        verbs, "sign", sign_model, "sign a manifest with an ed25519 key, for daemons that have trusted_keys",
        "pamdi engines sign store/resnet56 --key fleet.key",
    )  # fmt: skip
    sign.add_argument("dir", type=Path, help="a model's folder")
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="private key, PEM; made where absent")
    build = _verb(
        verbs, "build", run_build, "engines for a device type", "pamdi engines build store/resnet56 --device orin-nano"
    )
    add_build(build)
    half = _verb(
        verbs, "half", run_half, "a model's folder in FP16: half the bytes travel",
        "pamdi engines half store/resnet56 --out store/resnet56-half",
    )  # fmt: skip
    add_half(half)


def _verb(verbs: Any, name: str, run: Any, help: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help, epilog=f"example: {example}")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.set_defaults(run=run)
    return parser


def _add_model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "model", help="resnet50, resnet56, gpt2, the path of an .onnx file, or a local Hugging Face directory"
    )
    _add_making(verb)


def _add_making(verb: argparse.ArgumentParser) -> None:
    """Options of models that torch must export first. The defaults are those of named_models.Making."""
    verb.add_argument("--sequence", type=int, default=64, metavar="TOKENS", help="gpt2's fixed length (default: 64)")
    verb.add_argument("--seed", type=int, default=0, help="of random weights, without a directory (default: 0)")
    verb.add_argument(
        "--cache", type=Path, metavar="DIR", help="where what torch exported is kept (default: beside the output)"
    )


def _making(arguments: argparse.Namespace, out: Optional[Path] = None) -> Any:
    from pamdi.engines.named_models import Making, beside

    cache = arguments.cache or (beside(out) if out is not None else Making().cache)
    return Making(cache, arguments.sequence, arguments.seed, _say)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _cut(arguments: argparse.Namespace) -> int:
    from pamdi.cli.engines_cut import show_cuts
    from pamdi.engines.named_models import model_path

    return show_cuts(arguments, model_path(arguments.model, _making(arguments)))


def _export(arguments: argparse.Namespace) -> int:
    from pamdi.engines.export import export, model_path

    path = model_path(arguments.model, _making(arguments, arguments.out))
    name = arguments.name or arguments.out.resolve().name
    pairs = _pairs(arguments.segments, path, arguments.units)
    manifest = export(path, arguments.out, name, arguments.units, pairs, _say, arguments.bytes_max)
    total = sum(segment.bytes for segment in manifest.segments) + sum(weight.bytes for weight in manifest.weights)
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
    from pamdi.engines.half_store import read_about
    from pamdi.engines.manifest import read_manifest
    from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
    from pamdi.engines.verify import covering_chain, judge, random_inputs, run_chain, run_uncut

    manifest = read_manifest(arguments.dir)
    half = read_about(arguments.dir, manifest) is not None
    path = _uncut(arguments, manifest)
    inputs = _load_inputs(arguments.inputs) if arguments.inputs else random_inputs(manifest)
    pairs = covering_chain(manifest)
    pair_of: Dict[str, Any] = {}
    for optimisation in ("off", "all"):
        backend = OnnxRuntimeBackend(1, optimisation)
        pair_of[optimisation] = (run_chain(backend, arguments.dir, pairs, inputs), run_uncut(backend, path, inputs))
    verdict = judge(manifest, half, pair_of)
    rows: List[Dict[str, Any]] = [{"optimisation": name, **one._asdict()} for name, one in verdict.runs.items()]
    good = verdict.good
    if arguments.random is not None:
        from pamdi.engines.exactness import exactness

        wide = {name: array.astype("float32") if array.dtype == "float16" else array for name, array in inputs.items()}
        for one in exactness(path, arguments.random, inputs=wide, say=_say):
            rows.append({"cut_set": one.name, "segments": one.segments, **one.difference._asdict()})
            good = good and one.difference.identical
    if arguments.json:  # JSON has no infinity: null where an output is missing, misshapen or not a number
        runs = [{key: None if value == float("inf") else value for key, value in row.items()} for row in rows]
        about = {"precision": "fp16" if half else "fp32", "tolerance": verdict.tolerance}
        print(json.dumps({"model": manifest.model, "segments": len(pairs), "runs": runs, **about}))
    else:
        _print_verdict(rows, len(pairs), verdict.sentence)
    return 0 if good else 1


def _print_verdict(rows: List[Dict[str, Any]], segments: int, sentence: str) -> None:
    for row in rows[2:]:
        print(f"{row['cut_set']}: {row['segments']} segments, {'identical' if row['identical'] else 'different'}")
    for row in rows[:2]:
        said = "bit for bit the uncut model" if row["identical"] else "not bit for bit"
        print(
            f"optimisation {row['optimisation']}: {segments} chained segments are {said}; largest difference "
            f"{row['largest_absolute']:.3g} absolute, {row['largest_relative']:.3g} relative"
        )
    print(sentence)


def _uncut(arguments: argparse.Namespace, manifest: Any) -> Path:
    """The model that was cut: the one named, else one of ours or of the cache beside the folder, by its digest."""
    from pamdi.engines.named_models import OURS, beside, model_path
    from pamdi.engines.onnx_file import model_digest

    if arguments.model:
        candidates = [model_path(arguments.model, _making(arguments, arguments.dir))]
    else:
        candidates = [*OURS.values(), *sorted((arguments.cache or beside(arguments.dir)).glob("*.onnx"))]
    for path in candidates:
        if path.is_file() and model_digest(path) == manifest.source_sha256:
            return path
    where = arguments.model or "any model that is known here"
    raise EngineError(f"{arguments.dir} was not exported from {where}: give its model with --model")


def _load_inputs(path: Path) -> Any:
    import zipfile

    import numpy as np

    try:
        with open(path, "rb") as file:
            loaded = np.load(file)
            if isinstance(loaded, np.ndarray):
                raise EngineError(f"{path}: one array without a name: save it with numpy.savez(FILE, NAME=array)")
            return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError as error:
        raise EngineError(f"{path}: no such file: give an .npz file of inputs by name") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EngineError(f"{path}: not an .npz file of inputs by name: save it with numpy.savez") from error
