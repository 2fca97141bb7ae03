"""``ddi``: data-distributed inference. A work goes to one worker, by the rule, and stays there to the end.

Every worker must hold the whole model. No priorities, as in the literature's use of the word.
"""

from typing import Dict, Tuple

from pamdi.core.allocation import Route
from pamdi.core.policy.rule import Policy, Waiting


class Ddi(Policy):
    name = "ddi"
    source = "baseline: whole model everywhere, a share of the data each"

    def urgency(self, urgency: float) -> float:
        return 1.0

    def may_take(self, work: Waiting, device: str, here: str, routes: Dict[str, Tuple[Route, ...]]) -> bool:
        return work.boundary == 0 or device == here
