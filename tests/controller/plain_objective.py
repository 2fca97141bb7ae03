"""J a second time, from the document alone: no part of ``pamdi.controller`` but the file's own types. Slow and plain.

Sums are taken one after the other, frames one by one, paths by comparing every list of ids.
"""

import itertools
from typing import Any, Dict, List, Optional, Sequence, Tuple

Hop = Tuple[str, float, float, float, Tuple[str, str]]  # server, bytes per second, delay, fail probability, ends


def plain_objective(fleet: Any, routes: Dict[str, Any]) -> float:
    """Infinite when a server cannot keep up."""
    links, jobs, sources = plain_links(fleet), [], {s.id: s for s in fleet.source}
    urgency = {s.id: f"{s.gamma * s.alpha:.12g}" for s in fleet.source}
    levels = sorted(set(urgency.values()), key=float, reverse=True)
    fixed = 0.0
    for id, ways in routes.items():
        source = sources[id]
        for way in ways:
            flow = source.rate_hz * way.fraction
            done, delay, success = plain_jobs(fleet, links, source, way.visits)
            for server, pieces in done:
                jobs.append((server, flow, levels.index(urgency[id]), pieces, source.gamma))
            lost = fleet.loss_penalty_s * (1 - source.alpha * success)
            fixed += source.gamma * flow * (delay + lost)
    return float(fixed + sum(job[1] * job[4] * _time(job, jobs) for job in jobs))


def _time(job: Any, jobs: Sequence[Any]) -> float:
    server, _, p, pieces, _ = job
    here = [(f, c, sum(q), sum(x * x for x in q)) for v, f, c, q, _ in jobs if v == server]
    residual = (sum(f * s * s for f, c, s, _ in here if c <= p) + sum(f * q for f, c, _, q in here if c > p)) / 2
    above, here_too = (sum(f * s for f, c, s, _ in here if c < p), sum(f * s for f, c, s, _ in here if c <= p))
    if here_too >= 1:
        return float("inf")
    wait = residual / ((1 - above) * (1 - here_too))
    last = pieces[-1] if pieces else 0.0
    return float(wait + (sum(pieces) - last) / (1 - above) + last)


def plain_jobs(
    fleet: Any, links: Dict[Tuple[str, str], Hop], source: Any, visits: Any
) -> Tuple[List[Tuple[str, List[float]]], float, float]:
    """(server, pieces) of every job of one work, its delays, its chance to come back."""
    model = next(m for m in fleet.model if m.id == source.model)
    boards = {d.id: d for d in fleet.device}
    done: List[Tuple[str, List[float]]] = []
    delay, seen, touched = 0.0, {}, {source.device}
    for device, run in itertools.groupby(visits, key=lambda v: v.device):
        listed = list(run)
        touched.add(device)
        done.append((device, [plain_piece(model, boards[device], v.first, v.stop) for v in listed]))
    stops = [source.device, *(device for device, _ in done), source.device]
    starts = [v.first for n, v in enumerate(visits) if n == 0 or visits[n - 1].device != v.device]
    for a, b, boundary in zip(stops, stops[1:], [*starts, len(model.memory)]):
        for server, rate, wait, fails, ends in plain_path(links, sorted(boards), a, b):
            done.append((server, _frames(model.bytes[boundary], rate)))
            delay += wait
            seen[ends] = fails
    success = 1.0
    for fails in [*seen.values(), *(boards[d].fail_probability for d in touched)]:
        success *= 1 - fails
    return done, delay, success


def plain_piece(model: Any, board: Any, first: int, stop: int) -> float:
    """The calibrated seconds of the merged segment where there are some, else the sum of its units'."""
    calibrated = {(m.first, m.stop): m.seconds for m in model.merged.get(board.type, [])}
    units = [model.seconds[board.type][u] for u in range(first, stop)]
    return float(calibrated.get((first, stop), sum(units)) + board.overhead_s)


def _frames(nbytes: int, rate: float) -> List[float]:
    frames = []
    while nbytes > 0:
        frames.append(min(nbytes, 16384) / rate)
        nbytes -= 16384
    return frames


def plain_links(fleet: Any) -> Dict[Tuple[str, str], Hop]:
    found: Dict[Tuple[str, str], Hop] = {}
    ids = [d.id for d in fleet.device]
    ends = [(k, k.from_, k.to) for k in fleet.link] + [(k, k.to, k.from_) for k in fleet.link if not k.one_way]
    for mesh in fleet.mesh:
        members = ids if mesh.devices == "all" else mesh.devices
        ends += [(mesh, a, b) for a in members for b in members if a != b]
    for link, a, b in ends:
        server = f"medium {link.medium}" if link.medium is not None else f"link {a} {b}"
        found.setdefault((a, b), (server, link.rate_bytes_per_s, link.delay_s, link.fail_probability, (a, b)))
    return found


def plain_path(links: Dict[Tuple[str, str], Hop], ids: Sequence[str], a: str, b: str) -> List[Hop]:
    """Every list of ids of each length in turn, in lexicographic order."""
    if a == b:
        return []
    for between in range(len(ids) - 1):
        lists: Optional[List[Tuple[str, ...]]] = [(a,)]
        for _ in range(between):
            lists = [(*way, c) for way in lists or [] for c in ids if (way[-1], c) in links and c not in way and c != b]
        for way in sorted((*way, b) for way in lists or [] if (way[-1], b) in links):
            return [links[pair] for pair in zip(way, way[1:])]
    raise ValueError(f"no way from {a} to {b}")
