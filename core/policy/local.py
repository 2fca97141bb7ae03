"""``local``: the source's device computes everything itself."""

from typing import Dict, Tuple

from pamdi.core.allocation import Route
from pamdi.core.policy.rule import Policy, Waiting


class Local(Policy):
    name = "local"
    source = "baseline: no distribution"

    def may_take(self, work: Waiting, device: str, here: str, routes: Dict[str, Tuple[Route, ...]]) -> bool:
        return device == work.head
