"""``pamdi engines build`` and ``pamdi engines half``: engines for a device type, and a model's folder in FP16."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable, ContextManager, Optional, Tuple

from pamdi.core.errors import EngineError

MIB = 1 << 20
AS_THEY_ARE = ("onnxruntime", "stub")
INTERRUPTED = 130


def add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path)
    parser.add_argument("--device", required=True, metavar="TYPE", help="orin-nano, ..., or x86-<compute capability>")
    parser.add_argument("--backend", default="tensorrt", help="tensorrt (default), tensorrt-rtx, onnxruntime")
    parser.add_argument("--precision", default="fp16", help="fp16 (default), fp32, or int8, which needs --inputs")
    parser.add_argument(
        "--inputs",
        type=Path,
        metavar="FILE",
        help=".npz by input name: half calibrate int8, the rest judge it",
    )
    parser.add_argument("--ranges", default="entropy", help="of int8: entropy (default), or largest: nothing saturates")
    parser.add_argument("--batches", type=_batches, default=(1, 4, 8), metavar="1,4,8", help="smallest, usual, largest")
    parser.add_argument("--workspace-mib", type=int, metavar="N", help="default: a quarter of the board's memory")


def add_half(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path, help="a float32 model's folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--name", help="the model's id in the fleet (default: the name of the new folder)")
    parser.add_argument("--ends", choices=("float32", "float16"), default="float32", help="the model's inputs, outputs")


def _batches(text: str) -> Tuple[int, int, int]:
    small, usual, large = (int(part) for part in text.split(","))
    return small, usual, large


def run_half(arguments: argparse.Namespace) -> int:
    from pamdi.engines.half_store import halve_folder

    name = arguments.name or arguments.out.resolve().name
    halved = halve_folder(
        arguments.dir, arguments.out, name, arguments.ends == "float32", lambda line: print(line, file=sys.stderr)
    )
    if arguments.json:
        print(json.dumps({"model": name, "segments": len(halved.segments), "bytes": halved.bytes}))
    else:
        print(f"{name}: {len(halved.segments)} segments in FP16 in {arguments.out}")
    return 0


def run_build(arguments: argparse.Namespace) -> int:
    from pamdi.daemon.host import describe_host
    from pamdi.engines.build import Wanted, build
    from pamdi.engines.device_types import device_type
    from pamdi.engines.here import this_machine
    from pamdi.engines.manifest import read_manifest

    device_type(arguments.device)
    if arguments.backend in AS_THEY_ARE:
        return _nothing_to_build(arguments, read_manifest(arguments.dir).model)
    if arguments.workspace_mib is not None and arguments.workspace_mib < 1:
        raise EngineError(f"--workspace-mib {arguments.workspace_mib}: at least 1")
    workspace = None if arguments.workspace_mib is None else arguments.workspace_mib * MIB
    host = describe_host()
    here = this_machine(power_mode=host.power_mode or "", cuda=host.cuda or "")
    wanted = Wanted(
        arguments.device,
        arguments.backend,
        arguments.precision,
        arguments.batches,
        workspace,
        arguments.inputs,
        arguments.ranges,
    )
    try:
        with _progress() as show:
            outcome = build(arguments.dir, wanted, here, show)
    except KeyboardInterrupt:
        print(f"{arguments.dir}: interrupted; engines that are built stay, run it again to go on", file=sys.stderr)
        return INTERRUPTED
    if arguments.json:
        import msgspec

        engines = [msgspec.to_builtins(engine) for engine in outcome.built]
        print(
            json.dumps(
                {"model": outcome.manifest.model, "device": arguments.device, "backend": arguments.backend,
                 "engines": engines, "there_before": outcome.kept_before}
            )
        )  # fmt: skip
    else:
        print(f"{outcome.manifest.model}: {len(outcome.built)} engines built, {outcome.kept_before} were there already")
    return 0


def _nothing_to_build(arguments: argparse.Namespace, model: str) -> int:
    if arguments.json:
        print(json.dumps({"model": model, "device": arguments.device, "backend": arguments.backend, "engines": []}))
    else:
        print(f"{arguments.backend} runs the exported segments as they are: nothing to build for {arguments.device}")
    return 0


def _progress() -> ContextManager[Callable[[Any], None]]:
    """A bar with rich on a terminal, a line per engine otherwise."""
    from contextlib import nullcontext

    if sys.stderr.isatty():
        try:
            return _bar()
        except ImportError:
            pass
    return nullcontext(_line)


def _line(step: Any) -> None:
    if step.engine is None:
        return
    print(f"{step.done} of {step.of}: {_said(step.engine)}{_left(step.left_s)}", file=sys.stderr)


def _said(engine: Any) -> str:
    error = "not measured" if engine.max_abs_error is None else f"{engine.max_abs_error:.3g}"
    kept = f"; kept in FP32: {'; '.join(engine.kept)}" if engine.kept else ""
    return f"{engine.file}, error {error}{kept}"


def _left(seconds: Optional[float]) -> str:
    return f"; {seconds:.0f} s left" if seconds else ""


def _bar() -> ContextManager[Callable[[Any], None]]:
    from contextlib import contextmanager
    from typing import Iterator

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    @contextmanager
    def bar() -> Iterator[Callable[[Any], None]]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("engines", total=None, left="")

            def show(step: Any) -> None:
                where = f"{step.segment.first}:{step.segment.stop} {step.phase}"
                progress.update(task, description=where, completed=step.done, total=step.of, left=_left(step.left_s))
                if step.engine is not None:
                    progress.console.print(_said(step.engine))

            yield show

    return bar()
