"""Is any way of cutting a model the model? Every unit in a chain, and cut sets drawn at random, bit for bit.

Each cut set is exported anew into a folder of its own and run with graph optimisation off beside the uncut model.
"""

import random
import tempfile
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple

from pamdi.engines.backend import Arrays
from pamdi.engines.cuts import cut_file
from pamdi.engines.export import export
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend
from pamdi.engines.verify import Difference, compare, random_inputs, run_chain, run_uncut

CUTS_MAX = 10

Pairs = List[Tuple[int, int]]


class Exactness(NamedTuple):
    """One cut set: how many segments it has, and how its chain compares with the uncut model."""

    name: str
    segments: int
    difference: Difference


def cut_sets(units: int, random_sets: int, seed: int = 0) -> Iterator[Tuple[str, Pairs]]:
    """Every unit by itself, then ``random_sets`` times up to CUTS_MAX cuts at places drawn by ``seed``."""
    yield "every unit", [(unit, unit + 1) for unit in range(units)]
    drawn = random.Random(seed)
    for number in range(random_sets if units > 1 else 0):
        cuts = sorted(drawn.sample(range(1, units), drawn.randint(1, min(CUTS_MAX, units - 1))))
        yield f"random set {number}", list(zip([0, *cuts], [*cuts, units]))


def exactness(
    path: Path,
    random_sets: int,
    units: Optional[int] = None,
    inputs: Optional[Arrays] = None,
    folder: Optional[Path] = None,
    say: Callable[[str], None] = lambda line: None,
) -> List[Exactness]:
    """All cut sets of the model at ``path``; ``folder``: where they are exported meanwhile. Raises EngineError."""
    backend = OnnxRuntimeBackend(1, "off")
    count = len(cut_file(path, units)[0].units)
    found: List[Exactness] = []
    uncut: Optional[Arrays] = None
    for name, pairs in cut_sets(count, random_sets):
        with tempfile.TemporaryDirectory(dir=folder) as out:
            manifest = export(path, Path(out), "m", units, pairs)
            if inputs is None:
                inputs = random_inputs(manifest)
            if uncut is None:
                uncut = run_uncut(backend, path, inputs)
            found.append(Exactness(name, len(pairs), compare(run_chain(backend, Path(out), pairs, inputs), uncut)))
        say(f"{name}: {len(pairs)} segments, {'identical' if found[-1].difference.identical else 'DIFFERENT'}")
    return found
