"""Tables of boards that nobody here has, from one published figure each: python -m pamdi.calibration.derive OUT DIR...

    seconds of a unit = its FLOPs / (FLOPs of the published model / its published seconds)

that is, one sustained rate for everything. The publisher's own ResNet-18, 101 and 152 come out within 17 % of what was
published for them on both boards. Two things are wrong with it all the same, and cannot be mended without the board: a
unit that is bound by memory or by kernel launches takes longer than its FLOPs say (small images on a fast GPU above
all), and a segment's own launch costs something. So these tables are for simulations whose result hangs on ratios; no
daemon should be given them as its calibration. Each model carries its source, derivation and ``measured = false``.

DIR are folders made by ``pamdi engines export``; one of them must hold the model of the published figure.
"""

import sys
from pathlib import Path
from typing import Dict, List, Sequence

from pamdi.calibration.published import FIGURES, Figure
from pamdi.calibration.table import Chain, ModelTable, Run, Table
from pamdi.calibration.table_file import write_merged
from pamdi.core.errors import EngineError, PamdiError
from pamdi.engines.manifest import Manifest, read_manifest

SIZES = "bytes and memory are those of the exported segments, in their precision"
OPERATION_MIN_S = 1e-6  # a unit of no arithmetic (a reshape) still is a call


def derive(type: str, figure: Figure, manifests: Sequence[Manifest], date: str) -> Table:
    """The table of a device type. Raises EngineError when the published model is not among ``manifests``."""
    flops: Dict[str, int] = {m.model: sum(unit.flops for unit in m.units) for m in manifests}
    if not flops.get(figure.model):
        raise EngineError(f"{type}: its figure is of {figure.model}: export that too and name its folder")
    rate = flops[figure.model] / figure.seconds
    models = [_model(figure, manifest, rate, date) for manifest in manifests]
    return Table(type, power_mode=figure.power_mode, model=sorted(models, key=lambda model: model.id))


def _model(figure: Figure, manifest: Manifest, flops_per_s: float, date: str) -> ModelTable:
    units_s = [max(unit.flops / flops_per_s, OPERATION_MIN_S) for unit in manifest.units]
    runs: List[Run] = [Run(number, number + 1, 1, seconds) for number, seconds in enumerate(units_s)]
    spread = "distributed over units by FLOPs"
    if manifest.model != figure.model:
        spread = f"this model by its FLOPs at the same sustained {flops_per_s:.3g} FLOP/s"
    return ModelTable(
        id=manifest.model, measured=False, source=figure.source, derived=f"{figure.said}; {spread}; {SIZES}", date=date,
        backend=figure.backend, precision=figure.precision, units=[unit.name for unit in manifest.units],
        bytes=list(manifest.bytes), memory=[unit.memory_bytes for unit in manifest.units], runs=runs,
        chains=[Chain(1, sum(units_s))], source_sha256=manifest.source_sha256,
    )  # fmt: skip


def main(arguments: List[str]) -> int:
    import datetime

    if len(arguments) < 2:
        print("usage: python -m pamdi.calibration.derive OUT DIR...", file=sys.stderr)
        return 2
    out, folders = Path(arguments[0]), [Path(argument) for argument in arguments[1:]]
    try:
        manifests = [read_manifest(folder) for folder in folders]
        for type, figure in FIGURES.items():
            table = derive(type, figure, manifests, datetime.datetime.now(datetime.timezone.utc).date().isoformat())
            write_merged(out / f"{type}.toml", table)
            print(f"{out / type}.toml: {', '.join(model.id for model in table.model)}")
    except PamdiError as error:
        print(f"derive: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
