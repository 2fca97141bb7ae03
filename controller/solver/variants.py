"""Every run that a device may be asked for, as arrays: which units, cut into which pieces.

A run of n units can be cut in 2^(n-1) ways. For a model of up to ``UNITS_ALL`` units all are listed. For a longer one:
in one piece, in single units, and in single units but for a last piece of half the run. Those are what the objective
favours: finer pieces let more urgent works in (``q``), a longer last piece lets them in less (``S - l``).

Rows are sorted by where they stop, so that a shortest path takes them in order.
"""

from typing import Dict, List, NamedTuple, Tuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Pieces = Tuple[Tuple[int, int], ...]

UNITS_ALL = 6


class Variants(NamedTuple):
    """``rows``: the pieces of each, ``visits``: how many;
    ``until[b]``: rows [until[b-1], until[b]) stop at boundary b (from ``until[0]`` =
    0); ``pieces``: all there are, ``at`` their numbers; ``parts`` [rows, pieces]: 1 where a row has the piece."""

    rows: Tuple[Pieces, ...]
    first: Ints
    visits: Floats
    until: Tuple[int, ...]
    pieces: Tuple[Tuple[int, int], ...]
    parts: Floats
    last: Ints
    at: Dict[Tuple[int, int], int]


class Runs(NamedTuple):
    """Seconds of each row on one device type: all, last piece, squares of all pieces, squares of the total."""

    total_s: Floats
    last_s: Floats
    fine: Floats


def variants(units: int, single: bool = False, whole: bool = False) -> Variants:
    """``single``: only pieces of one unit, as the live controller loads them; ``whole``: only runs of one piece."""
    rows: List[Pieces] = []
    for stop in range(1, units + 1):
        for first in range(stop):
            rows.extend(_cuts(first, stop, units, single) if not whole else [((first, stop),)])
    until, stops = [0], [row[-1][1] for row in rows]
    for boundary in range(1, units + 1):
        until.append(sum(stop <= boundary for stop in stops))
    pieces = sorted({piece for row in rows for piece in row})
    at = {piece: n for n, piece in enumerate(pieces)}
    parts = np.zeros((len(rows), len(pieces)))
    for n, row in enumerate(rows):
        parts[n, [at[piece] for piece in row]] = 1.0
    return Variants(
        tuple(rows),
        np.array([row[0][0] for row in rows], dtype=np.intp),
        np.array([float(len(row)) for row in rows]),
        tuple(until),
        tuple(pieces),
        parts,
        np.array([at[row[-1]] for row in rows], dtype=np.intp),
        at,
    )


def runs(listed: Variants, seconds: Dict[Tuple[int, int], float]) -> Runs:
    """``seconds`` of each piece, the device's overhead included."""
    pieces = np.array([seconds[piece] for piece in listed.pieces])
    return Runs(listed.parts @ pieces, pieces[listed.last], listed.parts @ (pieces * pieces))


def _cuts(first: int, stop: int, units: int, single: bool) -> List[Pieces]:
    alone = tuple((u, u + 1) for u in range(first, stop))
    if single:
        return [alone]
    if units <= UNITS_ALL:
        return _all_cuts(first, stop)
    length = stop - first
    return [(*alone[:kept], (first + kept, stop)) for kept in sorted({0, length // 2, length - 1})]


def _all_cuts(first: int, stop: int) -> List[Pieces]:
    if stop - first == 1:
        return [((first, stop),)]
    found: List[Pieces] = [((first, stop),)]
    for middle in range(first + 1, stop):
        found.extend(((first, middle), *rest) for rest in _all_cuts(middle, stop))
    return found
