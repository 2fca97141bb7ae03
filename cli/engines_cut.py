"""``pamdi engines cut``: where a model can be cut, and what each cut costs."""

import argparse
import json
from typing import Any, Dict, List, Sequence

from pamdi.cli.table import print_table

HALVED = "float32"  # what FP16 halves on its way; whole numbers stay as they are


def show_cuts(arguments: argparse.Namespace, path: Any) -> int:
    from pamdi.engines.cuts import cut_file

    model, _ = cut_file(path, arguments.units)
    entering = [(_bytes(boundary), _fp16_bytes(boundary)) for boundary in model.boundaries]
    rows: List[Dict[str, Any]] = [
        {
            "unit": number, "name": unit.name, "operators": len(unit.nodes), "tensors_in": len(unit.entering),
            "bytes_in": entering[number][0], "bytes_in_fp16": entering[number][1], "memory_bytes": unit.memory_bytes,
            "flops": unit.flops, "wider_than_input": entering[number][1] > entering[0][1],
        }
        for number, unit in enumerate(model.units)
    ]  # fmt: skip
    if arguments.json:
        totals = {key: sum(row[key] for row in rows) for key in ("operators", "memory_bytes", "flops")}
        document = {"bytes_out": entering[-1][0], "bytes_out_fp16": entering[-1][1], **totals}
        print(json.dumps({"model": arguments.model, "units": rows, **document}))
        return 0
    _print(rows)
    wide = sum(row["wider_than_input"] for row in rows)
    print(
        f"{len(rows)} units, {sum(row['flops'] for row in rows) / 1e9:.2f} GFLOP; {entering[-1][0]} bytes out "
        f"({entering[-1][1]} in FP16); bytes are for one input; {wide} of {len(rows) - 1} cuts cost more than the input"
    )
    return 0


def _bytes(tensors: Sequence[Any]) -> int:
    return sum(tensor.item_bytes for tensor in tensors)


def _fp16_bytes(tensors: Sequence[Any]) -> int:
    return sum(tensor.item_bytes // (2 if tensor.dtype == HALVED else 1) for tensor in tensors)


def _print(rows: List[Dict[str, Any]]) -> None:
    table = [["unit", "first operator", "operators", "tensors in", "bytes in", "in FP16", "memory", "MFLOP", ""]]
    for row in rows:
        figures = [row["operators"], row["tensors_in"], row["bytes_in"], row["bytes_in_fp16"], row["memory_bytes"]]
        mark = "costs more than the input" if row["wider_than_input"] else ""
        table.append([str(row["unit"]), row["name"], *map(str, figures), f"{row['flops'] / 1e6:.1f}", mark])
    print_table(table)
