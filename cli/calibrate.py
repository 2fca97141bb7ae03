"""``pamdi calibrate``: seconds per segment, rate and delay of links, error of lower precisions; written as tables.

``latency`` runs on the board that it measures, with what a daemon needs there.
"""

import argparse
import asyncio
import datetime
import difflib
import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from pamdi.cli.broker_options import add_broker_options, broker_from
from pamdi.core.errors import ConfigError, EngineError

TABLES = Path("calibration") / "tables"
NEAR_NAME = 0.85  # of a known type: more likely mistyped than meant


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("calibrate", help="measure devices, links and precisions, and write tables")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _add_latency(verbs)
    _add_links(verbs)
    _add_precision(verbs)


def _add_latency(verbs: Any) -> None:
    latency = _verb(
        verbs, "latency", _latency, "seconds per segment on this device",
        "pamdi calibrate latency store/resnet56 --device orin-nano",
    )  # fmt: skip
    latency.add_argument("dir", type=Path, help="a model's folder, made by `pamdi engines export`")
    latency.add_argument("--device", required=True, metavar="TYPE", help="what this device is: the table's name")
    latency.add_argument("--backend", default="onnxruntime", help="onnxruntime (default) or tensorrt")
    latency.add_argument("--segments", metavar="0:4,4:9,...|all", help="beside every unit; all: whatever was exported")
    latency.add_argument("--batch", default="1", metavar="1,2,4", help="classes of batch (default 1)")
    latency.add_argument(
        "--threads", type=int, default=1, metavar="N", help="CPU threads, as in daemon.toml (default 1)"
    )
    latency.add_argument(
        "--width", type=float, default=0.05, metavar="X",
        help="measure until the median's 95%% interval is this share of it (default 0.05)",
    )  # fmt: skip
    latency.add_argument(
        "--seconds-max", type=float, default=6.0, metavar="S", help="per segment and batch, all passes (default 6)"
    )
    latency.add_argument("--passes", type=int, default=3, metavar="N", help="over all segments (default 3)")
    latency.add_argument("--out", type=Path, metavar="FILE", help="default: calibration/tables/TYPE.toml")


def _add_links(verbs: Any) -> None:
    links = _verb(
        verbs, "links", _links, "rate and delay between the daemons, as [[link]] rows",
        "pamdi calibrate links --broker mqtt://broker:1883 --out links.toml",
    )  # fmt: skip
    links.add_argument("--out", type=Path, default=Path("links.toml"), metavar="FILE", help="default: links.toml")
    links.add_argument("--samples", type=int, default=3, metavar="N", help="wait for so many probes a link (default 3)")
    links.add_argument(
        "--seconds-max", type=float, default=300.0, metavar="S", help="and at most so long (default 300)"
    )
    add_broker_options(links)


def _add_precision(verbs: Any) -> None:
    precision = _verb(
        verbs, "precision", _precision, "FP16 (and INT8) against FP32, per segment and for the whole chain",
        "pamdi calibrate precision store/resnet56 --labels",
    )  # fmt: skip
    precision.add_argument("dir", type=Path, help="a model's folder, made by `pamdi engines export`")
    precision.add_argument("--inputs", type=Path, metavar="FILE", help=".npz by input name (default: random numbers)")
    precision.add_argument(
        "--labels", action="store_true",
        help="accuracy too: labels are `labels` in FILE; without FILE, the test digits that come with pamdi",
    )  # fmt: skip
    precision.add_argument(
        "--int8",
        action="store_true",
        help="INT8 as well, calibrated by entropy on half of the inputs, judged on the rest",
    )


def _verb(verbs: Any, name: str, run: Any, help: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help, epilog=f"example: {example}")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.set_defaults(run=run)
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# -- latency -----------------------------------------------------------------------------------------------------------


def _latency(arguments: argparse.Namespace) -> int:
    from pamdi.calibration import conditions
    from pamdi.calibration.latency import Job, calibrate, precision_of
    from pamdi.calibration.median import Rule
    from pamdi.calibration.table import UNAVAILABLE, ModelTable, Table, widest
    from pamdi.calibration.table_file import write_merged
    from pamdi.daemon.host import describe_host
    from pamdi.engines.manifest import read_manifest
    from pamdi.engines.open_backend import open_backend

    _check_type(arguments.device)
    manifest = read_manifest(arguments.dir)
    backend = open_backend(arguments.backend, arguments.threads)
    if not 0 < arguments.width < 1 or not arguments.seconds_max > 0 or arguments.passes < 1:
        raise EngineError("--width must be in (0, 1), --seconds-max positive, --passes at least 1")
    rule = Rule(width=arguments.width, seconds_max=arguments.seconds_max / arguments.passes)
    power_mode, clocks = describe_host().power_mode or UNAVAILABLE, conditions.clocks()
    _say(
        f"power mode {power_mode}, clocks {clocks}, temperature {conditions.temperature_c()} (degrees C); a table "
        "holds for one mode"
    )
    pairs = _pairs(arguments.segments, manifest)
    job = Job(backend, arguments.dir, manifest, rule, time.perf_counter, _say, arguments.passes)
    runs, chains = calibrate(job, pairs, _numbers(arguments.batch))
    if (describe_host().power_mode or UNAVAILABLE) != power_mode:
        raise EngineError("the power mode changed while this was measured: set it (nvpmodel -m) and measure again")
    about = backend.describe()
    model = ModelTable(
        id=manifest.model, measured=True, source="measured", date=_today(),
        backend=f"{about['name']} {about['version']} on {about['device']}",
        precision=precision_of(manifest, about["precision"]),
        units=[unit.name for unit in manifest.units], bytes=list(manifest.bytes),
        memory=[unit.memory_bytes for unit in manifest.units], runs=runs, chains=chains,
        options=f"threads {arguments.threads}", machine=conditions.machine(), source_sha256=manifest.source_sha256,
        temperature_c=conditions.temperature_c(),
    )  # fmt: skip
    path = arguments.out or TABLES / f"{arguments.device}.toml"
    write_merged(path, Table(arguments.device, power_mode=power_mode, clocks=clocks, model=[model]))
    _print_latency(arguments, model, path, widest(model))
    return 0


def _check_type(named: str) -> None:
    """A table of a board is made on that board: from another machine it would call itself measured, and lie."""
    from pamdi.engines.device_types import NAMES
    from pamdi.engines.here import this_machine

    near = difflib.get_close_matches(named, sorted(NAMES), 1, NEAR_NAME)
    if named not in NAMES and near:
        raise EngineError(f"--device {named}: did you mean {near[0]}? A type of your own needs a name less like it")
    here = this_machine()
    if named in NAMES and here.device_type != named:
        raise EngineError(
            f"--device {named}: this machine is none ({here.description}): measure on the board, or give this "
            f"machine's type a name of its own, such as --device {here.device_type or 'x86-cpu'}"
        )


def _today() -> str:
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def _print_latency(arguments: argparse.Namespace, model: Any, path: Path, width: float) -> None:
    whole_s = {chain.batch: chain.seconds for chain in model.chains}
    if arguments.json:
        units_s = {
            batch: sum(r.seconds for r in model.runs if r.batch == batch and r.stop == r.first + 1) for batch in whole_s
        }
        said = {"table": str(path), "model": model.id, "runs": len(model.runs), "chain_s": whole_s, "units_s": units_s}
        print(json.dumps({**said, "widest_interval": width}))
        return
    for batch, seconds in whole_s.items():
        print(f"{model.id}, batch {batch}: {seconds * 1e3:.3f} ms for all units, one after the other")
    print(f"{len(model.runs)} segments in {path}; the widest interval is {width:.1%} of its median")
    each_s = [float(f"{model.seconds_of(unit, unit + 1):.4g}") for unit in range(len(model.units))]
    print(f"for [model.seconds] of controller.toml: {arguments.device} = {each_s}")


def _pairs(text: "str | None", manifest: Any) -> Sequence[Tuple[int, int]]:
    if text is None:
        return []
    if text == "all":
        return [(info.first, info.stop) for info in manifest.segments]
    try:
        return [(int(first), int(stop)) for first, stop in (part.split(":") for part in text.split(","))]
    except ValueError as error:
        raise EngineError(f"--segments {text}: write FIRST:STOP,FIRST:STOP,... or all") from error


def _numbers(text: str) -> List[int]:
    parts = text.split(",")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise EngineError(f"--batch {text}: write whole numbers from 1, such as 1,2,4")
    return [int(part) for part in parts]


# -- links -------------------------------------------------------------------------------------------------------------


def _links(arguments: argparse.Namespace) -> int:
    from pamdi.calibration.links import collect, rows, to_text
    from pamdi.calibration.table_file import write_text

    heard = asyncio.run(collect(broker_from(arguments), arguments.samples, arguments.seconds_max, _say))
    found = rows(heard)
    if not found:
        raise ConfigError("no daemon told of a link: are they online and neighbours ([probe] every_s, `pamdi status`)?")
    write_text(arguments.out, to_text(found, _today()))
    if arguments.json:
        print(json.dumps({"file": str(arguments.out), "links": [row._asdict() for row in found]}))
        return 0
    for row in found:
        print(row.sentence())
    print(f"{len(found)} [[link]] rows in {arguments.out}: put them into fleet.toml or controller.toml")
    return 0


# -- precision ---------------------------------------------------------------------------------------------------------


def _precision(arguments: argparse.Namespace) -> int:
    from pamdi.calibration.precision import compare_precisions, sample_of

    sample = sample_of(arguments.dir, arguments.inputs, arguments.labels)
    precisions = ["fp16", "int8"] if arguments.int8 else ["fp16"]
    results: List[Dict[str, Any]] = [
        result.document() for result in compare_precisions(arguments.dir, sample, precisions, _say)
    ]
    if arguments.json:
        print(json.dumps({"model": arguments.dir.name, "inputs": sample.what, "precisions": results}))
        return 0
    for result in results:
        print(f"{result['precision']} against fp32 on {result['inputs']} inputs ({sample.what})")
        for segment in result["segments"]:
            print(
                f"  segment {segment['first']}:{segment['stop']}: largest difference {segment['max_abs']:.3g}, "
                f"{segment['relative_rms']:.2e} of the values' size"
            )
        chain = result["chain"]
        print(
            f"  whole chain: {chain['max_abs']:.3g}, {chain['relative_rms']:.2e}; "
            f"top-1 changes in {chain['top1_changed']}"
        )
        if result["accuracy"] is not None:
            print(f"  accuracy {result['accuracy']:.4f}, fp32 {result['accuracy_fp32']:.4f}")
    return 0
