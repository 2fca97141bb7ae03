"""A well-connected fleet of many sources by seed, for what looks at all of them at once."""

import random

from pamdi.controller.fleet import DeviceEntry, Fleet, LinkEntry, ModelEntry, SourceEntry

SPEEDS = {"fast": 0.5, "slow": 1.5}


def many(seed: int, devices: int = 40, sources: int = 16, memory: float = 3.0, fails: float = 0.0) -> Fleet:
    """Two models of 4 and 3 units; ``memory``: how many of the larger a device holds."""
    rng = random.Random(seed)
    ids = [f"d{n:02d}" for n in range(devices)]
    boards = [DeviceEntry(id, rng.choice(sorted(SPEEDS)), int(memory * 40), rng.choice([0.0, fails])) for id in ids]
    pairs = {(min(a, b), max(a, b)) for a in range(devices) for b in rng.sample(range(devices), 5) if a != b}
    links = [
        LinkEntry(ids[a], ids[b], rng.uniform(2e6, 2e7), rng.uniform(0, 0.002), rng.choice([0.0, fails]))
        for a, b in sorted(pairs)
    ]
    models = [_model(rng, f"m{units}", units) for units in (3, 4)]
    wanted = [
        SourceEntry(
            f"s{n:02d}", rng.choice(models).id, rng.choice(ids), rng.choice([1.0, 5.0]), rate_hz=rng.uniform(20, 60)
        )
        for n in range(sources)
    ]
    return Fleet(boards, links, [], models, wanted)


def _model(rng: random.Random, id: str, units: int) -> ModelEntry:
    base = [rng.uniform(0.004, 0.02) for _ in range(units)]
    sizes = [*(rng.choice([5_000, 20_000, 60_000]) for _ in range(units)), 1_000]
    seconds = {kind: [s * speed for s in base] for kind, speed in SPEEDS.items()}
    return ModelEntry(id, [f"u{u}" for u in range(units)], sizes, [10] * units, seconds)
