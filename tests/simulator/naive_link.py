"""A link frame by frame, as the product's does it: the plain model that ``server.py`` must agree with.

At every frame's end, and whenever something comes while nothing is sent, the most urgent message that waits sends its
next frame; messages without a payload go whole and before all tensors; equals in the order in which they came.
"""

from typing import Dict, List, NamedTuple, Tuple

FRAME_BYTES = 16_384


class Message(NamedTuple):
    """Comes at ``at``; ``urgency`` inf: without a payload; ``rate`` of the line that it takes."""

    at: float
    name: int
    nbytes: int
    urgency: float
    rate: float


def ends(messages: List[Message]) -> Dict[int, float]:
    """When the last byte of each has left."""
    coming = sorted(messages, key=lambda m: m.at)
    waiting: List[Tuple[float, int, Message, float]] = []
    left_at: Dict[int, float] = {}
    now, order = 0.0, 0
    while coming or waiting:
        if not waiting:
            now = max(now, coming[0].at)
        while coming and coming[0].at <= now:
            message = coming.pop(0)
            order += 1
            waiting.append((-message.urgency, order, message, float(message.nbytes)))
        waiting.sort(key=lambda entry: entry[:2])
        urgency, place, message, left = waiting.pop(0)
        size = left if message.urgency == float("inf") else min(left, FRAME_BYTES)
        now += size / message.rate
        if left - size > 0:
            waiting.append((urgency, place, message, left - size))
        else:
            left_at[message.name] = now
    return left_at
