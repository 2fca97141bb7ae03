"""Submissions that went wrong, from a seed: honest ones with bytes flipped, cut, repeated or spliced, and lies in the
fields that matter. Used by the tests and by ``make fuzz``."""

import json
import random
from typing import Any, Callable, List

import numpy as np

from pamdi.client.payloads import write_submission

HOSTILE: List[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, 1e308, -0.0, "", "a", "\x00", "é" * 200, [], {}, [[]], {"id": "x"},
    [0, 2**62], [0, 2**31, 2**31, 2**31], [-1, -1], [1] * 40, [2**40, 2**40], "AAAA", "====", "A===", "AA AA", "\ud800",
]  # fmt: skip
RAW = [b"NaN", b"Infinity", b"1e999", b"[" * 3000, b'{"a":' * 3000, b"\xff\xfe", b"\x00", b'"\\ud800"', b"9" * 5000]


def honest(chance: random.Random) -> bytes:
    """A submission that is right."""
    shape = tuple(chance.randint(0, 3) for _ in range(chance.randint(0, 3)))
    dtype = chance.choice(["float32", "uint8", "bool", "float16", "int64"])
    inputs = {name: np.zeros(shape, dtype) for name in chance.sample(["x", "image", "mask"], chance.randint(1, 2))}
    gamma = chance.choice([None, 1.0, 10.0])
    return write_submission(f"w{chance.randint(0, 999)}", inputs, gamma, chance.choice([None, 0.5]))


def mutated(chance: random.Random) -> bytes:
    """One submission that somebody, or something, has damaged."""
    payload = honest(chance)
    for _ in range(chance.randint(1, 3)):
        payload = chance.choice(MUTATIONS)(payload, chance)
    return payload


def _flip(payload: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(payload or b"{")
    damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _cut(payload: bytes, chance: random.Random) -> bytes:
    return payload[: chance.randint(0, len(payload))]


def _repeat(payload: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(payload))
    stop = chance.randint(start, len(payload))
    return payload[:stop] + payload[start:]


def _splice(payload: bytes, chance: random.Random) -> bytes:
    at = chance.randint(0, len(payload))
    return payload[:at] + chance.choice(RAW) + payload[at + chance.randint(0, 4) :]


def _lie(payload: bytes, chance: random.Random) -> bytes:
    """Replace one field, at any depth, by something hostile."""
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return payload
    places: List[Any] = []
    _collect(document, places)
    if places:
        parent, key = chance.choice(places)
        parent[key] = chance.choice(HOSTILE)
    return json.dumps(document).encode("utf-8", "replace")


def _collect(value: Any, places: List[Any]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            places.append((value, key))
            _collect(inner, places)


MUTATIONS: List[Callable[[bytes, random.Random], bytes]] = [_flip, _cut, _repeat, _splice, _lie, _lie]
