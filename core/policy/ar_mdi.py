"""``ar-mdi``: each source has its own fixed chain of workers, sources blind to each other (IEEE OJ-COMS 4, 2023).

Read as: per source, contiguous units are allotted in proportion to the workers' speed; the controller computes the
chain and sends it as the source's routes. A work follows its route whatever the queues are, first come first served.
With several routes, a work takes one by a hash of its id, in proportion to the fractions.
"""

import zlib
from typing import Dict, Optional, Tuple

from pamdi.core.allocation import Route
from pamdi.core.policy.rule import Policy, Waiting


def route_of(work: Waiting, routes: Tuple[Route, ...]) -> Optional[Route]:
    """The route of this work: the same on every device, with no message."""
    point = zlib.crc32(f"{work.source}/{work.id}".encode()) / 2**32 * sum(route.fraction for route in routes)
    for route in routes:
        point -= route.fraction
        if point < 0:
            return route
    return routes[-1] if routes else None


class ArMdi(Policy):
    name = "ar-mdi"
    source = "Adaptive and resilient model-distributed inference, IEEE OJ-COMS 4, 2023 (reading: static chains)"

    def urgency(self, urgency: float) -> float:
        return 1.0

    def may_take(self, work: Waiting, device: str, here: str, routes: Dict[str, Tuple[Route, ...]]) -> bool:
        route = route_of(work, routes.get(work.source, ()))
        if route is None:
            return device == here
        return any(visit.device == device and visit.first <= work.boundary < visit.stop for visit in route.visits)
