"""What a server costs, and what one more job would cost it.

A device, link or medium is known by the six sums that the objective needs of each class's flows, weighted by rate:

    waits  = sum gamma * lambda * jobs          cut  = sum gamma * lambda * (S - l)      last = sum gamma * lambda * l
    square = sum lambda * S^2                   fine = sum lambda * q                    load = sum lambda * S

With R and sigma as in ``allocation.md`` its share of J is, over the classes p from the most urgent::

    waits_p * R_p / ((1 - sigma_{p-1}) (1 - sigma_p))  +  cut_p / (1 - sigma_{p-1})  +  last_p

Every term is a power series in the rates with no negative coefficient: adding a flow never helps another one, and the
harm of two flows together is at least the sum of their harms. ``exact`` rests on that.

A full server has no finite cost. The search needs a slope there, so 1 / (1 - sigma) goes on as a straight line from
1 - sigma = ``edge`` on; with ``edge`` = 0 it is infinite, as the document says.
"""

import math
from typing import Dict, List, NamedTuple, Sequence, Tuple

Sums = Tuple[float, float, float, float, float, float]
Flow = Tuple[int, Sums]  # class, sums: one source's flows at one server

NOTHING: Sums = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Price(NamedTuple):
    """What one job per second more would add to J at a server, for its class, by what the job is made of: ``wait``
    and ``stretch`` times gamma are its own time, ``square``, ``fine`` and ``load`` the harm to others."""

    wait_s: float
    stretch: float
    square: float
    fine: float
    load: float
    class_residual_s: float  # R_p / (1 - sigma_{p-1}), and 1 - sigma_p: what a job's own load does to its class
    class_free: float
    free: float  # 1 - the load of all classes


IDLE = Price(0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0)


def inverse(free: float, edge: float) -> float:
    """1 / ``free``, and from ``edge`` down a straight line."""
    if free > edge:
        return 1.0 / free
    return math.inf if edge <= 0 else (2 * edge - free) / (edge * edge)


def _slope(free: float, edge: float) -> float:
    """Of ``inverse`` by the load."""
    if free > edge:
        return 1.0 / (free * free)
    return 0.0 if edge <= 0 else 1.0 / (edge * edge)


def cost(flows: Sequence[Flow], edge: float) -> float:
    """A server's share of J. ``flows`` in order of class."""
    count = len(flows)
    if count == 1:  # most servers
        _, (waits, cut, last, square, _, load) = flows[0]
        return waits * 0.5 * square * inverse(1.0 - load, edge) + cut + last
    finer = 0.0
    for _, sums in flows:
        finer += sums[4]
    total, squares, above, i = 0.0, 0.0, 1.0, 0
    sigma = 0.0
    while i < count:
        klass = flows[i][0]
        waits = cut = last = 0.0
        while i < count and flows[i][0] == klass:
            w, c, end, square, fine, load = flows[i][1]
            waits += w
            cut += c
            last += end
            squares += square
            finer -= fine
            sigma += load
            i += 1
        free = inverse(1.0 - sigma, edge)
        total += waits * 0.5 * (squares + finer) * above * free + cut * above + last
        above = free
    return total


def price(flows: Sequence[Flow], klass: int, edge: float) -> Price:
    """The slope of ``cost`` at ``flows`` (in order of class) for a job of ``klass``."""
    if not flows:
        return IDLE
    levels = _levels(flows, klass)
    finer = sum(level[4] for level in levels.values())
    squares = sigma = square_price = fine_price = load_price = 0.0
    above, above_slope = 1.0, 0.0
    wait_s, stretch, mine, mine_free = 0.0, 1.0, 0.0, 1.0
    for p, (waits, cut, _, square, fine, load) in levels.items():
        squares += square
        finer -= fine
        sigma += load
        residual = 0.5 * (squares + finer)
        free, free_slope = inverse(1.0 - sigma, edge), _slope(1.0 - sigma, edge)
        if p < klass:
            fine_price += 0.5 * waits * above * free
        else:
            square_price += 0.5 * waits * above * free
            load_price += waits * residual * above * free_slope
        if p > klass:
            load_price += waits * residual * above_slope * free + cut * above_slope
        if p == klass:
            wait_s, stretch, mine, mine_free = residual * above * free, above, residual * above, 1.0 - sigma
        above, above_slope = free, free_slope
    return Price(wait_s, stretch, square_price, fine_price, load_price, mine, mine_free, 1.0 - sigma)


def _levels(flows: Sequence[Flow], klass: int) -> Dict[int, Sums]:
    """The sums by class, in order, with ``klass`` among them."""
    found: Dict[int, Sums] = {}
    for p, sums in flows:
        if p > klass and klass not in found:
            found[klass] = NOTHING
        found[p] = add(found[p], sums) if p in found else sums
    found.setdefault(klass, NOTHING)
    return found


def add(a: Sums, b: Sums) -> Sums:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4], a[5] + b[5])


def scaled(sums: Sums, rate_hz: float, gamma: float) -> Sums:
    """``sums`` of one work as those of a flow of ``rate_hz`` works of weight ``gamma``."""
    weight = rate_hz * gamma
    return (
        sums[0] * weight, sums[1] * weight, sums[2] * weight, sums[3] * rate_hz, sums[4] * rate_hz, sums[5] * rate_hz,
    )  # fmt: skip


def load_of(flows: Sequence[Flow]) -> float:
    """Seconds of work per second."""
    return sum(sums[5] for _, sums in flows)


def insert(flows: Sequence[Flow], klass: int, sums: Sums) -> List[Flow]:
    """``flows`` and one more, in order of class."""
    at = 0
    while at < len(flows) and flows[at][0] <= klass:
        at += 1
    return [*flows[:at], (klass, sums), *flows[at:]]
