"""What a device of a large fleet is not told: it would be most of its document, and it has no use for it.

*Routes.* Only a policy that binds reads them (``core/asking.py``), and then any of them, since a work may come by a
former one: under such a policy everybody is told all. Under the others a device is told those that pass it, its own
sources' among them, for people to read: 140 of 270 MB an epoch with 1,000 devices and 200 sources.

*Of a neighbour* what is as it usually is (no way over others, the plane of links) is left out: whoever reads it, in any
version, takes the default. Where a tunnel leads to is not told its address, which nobody dials.

All else stays, since it may be used:

- *Neighbours.* Whoever is linked and holds the next segment is a candidate of the rule, and memory is filled with
  copies (``residents.py``): hardly a pair of devices has nothing to ask of each other. A head asks everybody for a
  work that is overdue; direct links carry tunnels, and are measured because there is a connection.
- *Sources.* Who was a source's device before still has its open works, and starts them anew by what it is told of the
  source. Attempts and classes are looked up for works of any source.
"""

from typing import Dict, Iterable, Mapping, Set, Tuple

from pamdi.core.allocation import SMALL_FLEET_DEVICES_MAX, Neighbour, Route, SourceSpec
from pamdi.core.policy import policy_named

Routes = Mapping[str, Tuple[Route, ...]]


class BriefNeighbour(Neighbour, frozen=True, omit_defaults=True):
    """Written without what is as it usually is."""


def is_small(devices: int) -> bool:
    """Whether everybody is told everything, at every epoch."""
    return devices <= SMALL_FLEET_DEVICES_MAX


def routes_by_device(
    ids: Iterable[str], policy: str, sources: Iterable[SourceSpec], routes: Routes
) -> Dict[str, Dict[str, Tuple[Route, ...]]]:
    """What each of ``ids``, all devices of the fleet, is told of the routes. ``policy`` is one of ours."""
    told: Dict[str, Dict[str, Tuple[Route, ...]]] = {id: {} for id in ids}
    if is_small(len(told)) or policy_named(policy).binds:
        return {id: dict(routes) for id in told}
    heads = {source.id: source.device for source in sources}
    for source, ways in routes.items():
        passed: Set[str] = {visit.device for way in ways for visit in way.visits}
        for id in passed | {heads.get(source, "")}:
            if id in told:
                told[id][source] = ways
    return told
