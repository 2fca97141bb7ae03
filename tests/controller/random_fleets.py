"""Random small fleets by seed: loose or tight memory, links of their own, media, relays, delays, losses."""

import random
from typing import Any, Dict, List, Sequence, Tuple

import msgspec

from pamdi.controller.fleet import DeviceEntry, Fleet, LinkEntry, MergedEntry, MeshEntry, ModelEntry, SourceEntry
from pamdi.core.allocation import Route, RouteVisit

TYPES = ("orin", "xavier", "nano")


def random_fleet(seed: int, devices: int = 3, sources: int = 2, units: int = 3, tight: bool = False) -> Fleet:
    """Load is about 0.2 to 0.8 of what the devices could do. Tight: all models fit little more than once in all."""
    rng = random.Random(seed)
    models = [_model(rng, f"m{i}", units) for i in range(rng.randint(1, 2))]
    ids = [f"d{i}" for i in range(devices)]
    whole = sum(sum(model.memory) for model in models)
    boards = []
    for id in ids:
        memory = int(whole * rng.uniform(0.4, 0.9)) if tight else 10 * whole
        fails = rng.choice([0.0, 0.0, 0.01])
        boards.append(DeviceEntry(id, rng.choice(TYPES), memory, fails, rng.choice([0.0, 0.0, 0.0005])))
    links, mesh = _links(rng, ids)
    wanted = []
    for i in range(sources):
        model = rng.choice(models)
        gamma = rng.choice([1.0, 1.0, 2.0, 10.0])
        alpha = rng.choice([1.0, 0.9])
        wanted.append(SourceEntry(f"s{i}", model.id, rng.choice(ids), gamma=gamma, alpha=alpha, rate_hz=1.0))
    busy = sum(sum(model.seconds["xavier"]) for model in models) / len(models) * sources / devices
    rate = rng.uniform(0.2, 0.8) / busy
    wanted = [
        SourceEntry(s.id, s.model, s.device, gamma=s.gamma, alpha=s.alpha, rate_hz=rate * rng.uniform(0.5, 1.2))
        for s in wanted
    ]  # fmt: skip
    return Fleet(boards, links, mesh, models, wanted)


def _model(rng: random.Random, id: str, units: int) -> ModelEntry:
    base = [rng.uniform(0.002, 0.03) for _ in range(units)]
    seconds = {kind: [s * speed for s in base] for kind, speed in zip(TYPES, (0.5, 1.0, 2.5))}
    sizes = [rng.choice([40, 4_000, 16_384, 50_000, 200_000]) for _ in range(units + 1)]
    return ModelEntry(
        id, [f"u{u}" for u in range(units)], sizes, [rng.randint(50, 300) for _ in range(units)], seconds
    )  # fmt: skip


def with_merged(fleet: Fleet, seed: int) -> Fleet:
    """About half of all segments of two units or more have a time of their own: mostly less than their units', now and
    then a little more, as measured tables have it."""
    rng = random.Random(seed)
    models = []
    for model in fleet.model:
        count = len(model.memory)
        pieces = [(first, stop) for first in range(count) for stop in range(first + 2, count + 1)]
        merged = {
            kind: [
                MergedEntry(first, stop, sum(seconds[first:stop]) * rng.choice([0.5, 0.8, 0.95, 1.1]))
                for first, stop in pieces
                if rng.random() < 0.5
            ]
            for kind, seconds in model.seconds.items()
        }
        models.append(msgspec.structs.replace(model, merged=merged))
    return msgspec.structs.replace(fleet, model=models)


def _links(rng: random.Random, ids: Sequence[str]) -> Tuple[List[LinkEntry], List[MeshEntry]]:
    def values() -> Dict[str, Any]:
        return {
            "rate_bytes_per_s": rng.choice([2.5e6, 1.2e7, 1.2e8]),
            "delay_s": rng.choice([0.0, 0.002]),
            "fail_probability": rng.choice([0.0, 0.0, 0.005]),
            "medium": rng.choice([None, None, "wifi"]),
        }

    kind = rng.choice(["mesh", "mesh", "line", "ring", "some"])
    if kind == "mesh":
        own = [LinkEntry(ids[0], ids[1], one_way=rng.random() < 0.5, **values())] if rng.random() < 0.5 else []
        return own, [MeshEntry("all", **values())]
    pairs = list(zip(ids, ids[1:]))
    if kind == "ring" and len(ids) > 2:
        pairs.append((ids[-1], ids[0]))
    if kind == "some":
        chosen = rng.sample(ids, 2)
        return [LinkEntry(a, b, **values()) for a, b in pairs], [MeshEntry(sorted(chosen), **values())]
    return [LinkEntry(a, b, **values()) for a, b in pairs], []


def random_routes(fleet: Fleet, seed: int) -> Dict[str, Tuple[Route, ...]]:
    """One to three random routes of each source."""
    rng = random.Random(seed)
    found: Dict[str, Tuple[Route, ...]] = {}
    for source in fleet.source:
        units = len(next(m for m in fleet.model if m.id == source.model).memory)
        shares = [rng.uniform(0.1, 1.0) for _ in range(rng.randint(1, 3))]
        found[source.id] = tuple(
            Route(share / sum(shares), 0.0, _visits(rng, units, [d.id for d in fleet.device])) for share in shares
        )
    return found


def _visits(rng: random.Random, units: int, ids: Sequence[str]) -> Tuple[RouteVisit, ...]:
    edges = [0, *sorted(rng.sample(range(1, units), rng.randint(0, units - 1))), units]
    return tuple(RouteVisit(a, b, rng.choice(ids)) for a, b in zip(edges, edges[1:]))
