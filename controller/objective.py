"""J, the objective of ``allocation.md``, to the last digit: what a plan costs, and why.

Every device, directed link and medium is a server of Poisson flows of jobs that can be interrupted between pieces
only. For flows i with rate lambda_i, class p_i (1 = most urgent), job time S_i, last piece l_i, squares q_i::

    R_p     = 1/2 * ( sum over classes <= p of lambda_i * S_i^2  +  sum over classes > p of lambda_i * q_i )
    sigma_p = sum over classes <= p of lambda_i * S_i                          (sigma_0 = 0)
    W_p     = R_p / ( (1 - sigma_{p-1}) * (1 - sigma_p) )                      infinite when sigma_p >= 1
    time of a job of flow i = W_p + (S_i - l_i) / (1 - sigma_{p-1}) + l_i

(Cobham's formula for a non-preemptive priority M/G/1 queue, carried to jobs with preemption points.) SI units.
"""

import math
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from pamdi.controller.fleet import DeviceEntry, Fleet, ModelEntry
from pamdi.controller.network import Network, Server
from pamdi.core.allocation import Route, SourceSpec

FRAME_BYTES = 16_384


class Job(NamedTuple):
    """One flow's job at one server: arrivals per second, class (1 = most urgent), and its pieces, summed up."""

    server: Server
    rate_hz: float
    klass: int
    total_s: float
    last_s: float
    squares: float


class Cost(NamedTuple):
    """``objective``: J, infinite when a server cannot keep up; ``floor``: J0, the same for every plan;
    ``latency_s`` (T) and ``success`` by source; ``route_s``: T of each route of a source, in order."""

    objective: float
    floor: float
    latency_s: Dict[str, float]
    success: Dict[str, float]
    route_s: Dict[str, Tuple[float, ...]]


class _Known(NamedTuple):
    devices: Dict[str, DeviceEntry]
    models: Dict[str, ModelEntry]


class _Way(NamedTuple):
    """A route as the formulas see it."""

    jobs: List[Job]
    delay_s: float
    success: float


def classes(sources: Sequence[SourceSpec]) -> Dict[str, int]:
    """Each source's class, from 1; gamma * alpha equal to 12 significant digits is one class."""
    levels = sorted({_level(source) for source in sources}, reverse=True)
    rank = {level: n for n, level in enumerate(levels, start=1)}
    return {source.id: rank[_level(source)] for source in sources}


def piece_seconds(model: ModelEntry, kind: str, first: int, stop: int) -> float:
    """Seconds of units [first, stop) in one piece on a device of type ``kind``, without its overhead: as calibrated
    where the merged segment was, else the units' sum."""
    if stop - first > 1:
        for piece in model.merged.get(kind, ()):
            if (piece.first, piece.stop) == (first, stop):
                return piece.seconds
    return math.fsum(model.seconds[kind][first:stop])


def evaluate(fleet: Fleet, routes: Mapping[str, Sequence[Route]], network: Optional[Network] = None) -> Cost:
    """The cost of ``routes`` (by source, fractions summing to 1). A source without routes makes J infinite.

    ``network``: the fleet's, where the caller has one that already knows its paths."""
    network, klass = Network(fleet) if network is None else network, classes(fleet.source)
    known = _Known({d.id: d for d in fleet.device}, {m.id: m for m in fleet.model})
    ways = {
        source.id: [
            _way(known, network, source, route, source.rate_hz * route.fraction, klass[source.id])
            for route in routes.get(source.id, ())
        ]
        for source in fleet.source
    }
    servers: Dict[Server, List[Job]] = {}
    for job in (job for found in ways.values() for way in found for job in way.jobs):
        servers.setdefault(job.server, []).append(job)
    waits = {server: _waits(jobs) for server, jobs in servers.items()}
    latency_s, success, route_s = {}, {}, {}
    for source in fleet.source:
        times = tuple(math.fsum((way.delay_s, *(_time(j, waits) for j in way.jobs))) for way in ways[source.id])
        shares = [route.fraction for route in routes.get(source.id, ())]
        route_s[source.id] = times
        latency_s[source.id] = math.fsum(f * t for f, t in zip(shares, times)) if times else math.inf
        success[source.id] = math.fsum(f * way.success for f, way in zip(shares, ways[source.id]))
    penalty = fleet.loss_penalty_s
    terms = [
        s.gamma * s.rate_hz * (latency_s[s.id] + penalty * (1 - s.alpha * success[s.id])) for s in fleet.source
    ]  # fmt: skip
    return Cost(math.fsum(terms), floor_of(fleet.source, penalty), latency_s, success, route_s)


def floor_of(sources: Sequence[SourceSpec], loss_penalty_s: float) -> float:
    """J0: what every plan costs."""
    return math.fsum(s.gamma * s.rate_hz * loss_penalty_s * (1 - s.alpha) for s in sources)


def idle_s(fleet: Fleet, source: SourceSpec, route: Route, network: Optional[Network] = None) -> float:
    """Seconds of ``route`` when nobody else is there: what its jobs and delays add up to."""
    known = _Known({d.id: d for d in fleet.device}, {m.id: m for m in fleet.model})
    way = _way(known, Network(fleet) if network is None else network, source, route, 0.0, 1)
    return math.fsum((way.delay_s, *(job.total_s for job in way.jobs)))


def _level(source: SourceSpec) -> float:
    return float(f"{source.gamma * source.alpha:.11e}")


def _way(known: _Known, network: Network, source: SourceSpec, route: Route, rate_hz: float, klass: int) -> _Way:
    """The jobs of one route, in order: the input's transfer, runs and transfers, the output's transfer."""
    devices, model = known.devices, known.models[source.model]
    way = _Way([], 0.0, 1.0)
    at, carried, crossed = source.device, model.bytes[0], set()
    runs: List[Tuple[str, List[float]]] = []
    legs: List[Tuple[str, str, int]] = []
    for visit in route.visits:
        board = devices[visit.device]
        piece = piece_seconds(model, board.type, visit.first, visit.stop) + board.overhead_s
        if runs and runs[-1][0] == visit.device:
            runs[-1][1].append(piece)
        else:
            legs.append((at, visit.device, carried))
            runs.append((visit.device, [piece]))
        at, carried = visit.device, model.bytes[visit.stop]
    legs.append((at, source.device, carried))
    for device, pieces in runs:
        squares = math.fsum(piece * piece for piece in pieces)
        way.jobs.append(Job(("device", device), rate_hz, klass, math.fsum(pieces), pieces[-1], squares))
    delay_s, success = 0.0, 1.0
    for a, b, nbytes in legs:
        path = network.path(a, b)
        if path is None:
            return _Way([], math.inf, 0.0)
        for link in path:
            way.jobs.append(_transfer(link.server, rate_hz, klass, nbytes, link.rate_bytes_per_s))
            delay_s += link.delay_s
            if (link.a, link.b) not in crossed:
                crossed.add((link.a, link.b))
                success *= 1 - link.fail_probability
    for id in sorted({source.device, *(device for device, _ in runs)}):  # in order: the same digits every time
        success *= 1 - devices[id].fail_probability
    return _Way(way.jobs, delay_s, success)


def _transfer(server: Server, rate_hz: float, klass: int, nbytes: int, rate_bytes_per_s: float) -> Job:
    """Frame by frame: full frames, then the rest. Summed in closed form, since a tensor has hundreds."""
    full, rest = divmod(nbytes, FRAME_BYTES)
    frame_s, rest_s = FRAME_BYTES / rate_bytes_per_s, rest / rate_bytes_per_s
    last_s = rest_s if rest else (frame_s if full else 0.0)
    squares = full * frame_s * frame_s + rest_s * rest_s
    return Job(server, rate_hz, klass, nbytes / rate_bytes_per_s, last_s, squares)


def _waits(jobs: Sequence[Job]) -> Dict[int, Tuple[float, float]]:
    """By class: W_p, and 1 - sigma_{p-1}."""
    found: Dict[int, Tuple[float, float]] = {}
    for p in sorted({job.klass for job in jobs}):
        residual = 0.5 * math.fsum(
            job.rate_hz * (job.total_s**2 if job.klass <= p else job.squares) for job in jobs
        )  # fmt: skip
        above = 1 - math.fsum(job.rate_hz * job.total_s for job in jobs if job.klass < p)
        free = 1 - math.fsum(job.rate_hz * job.total_s for job in jobs if job.klass <= p)
        found[p] = (residual / (above * free) if free > 0 else math.inf, above)
    return found


def _time(job: Job, waits: Mapping[Server, Mapping[int, Tuple[float, float]]]) -> float:
    wait, above = waits[job.server][job.klass]
    return math.inf if math.isinf(wait) else wait + (job.total_s - job.last_s) / above + job.last_s
