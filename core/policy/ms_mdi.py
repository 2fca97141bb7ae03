"""``ms-mdi``: several sources scheduled together, without priorities (ICASSPW 2023, known by description only).

Read as: the same rule and the same protocol with every gamma * alpha equal, so that works are served oldest first at
every place. It differs from ``pa-mdi`` in nothing else, which is what makes the comparison fair.
"""

from pamdi.core.policy.rule import Policy


class MsMdi(Policy):
    name = "ms-mdi"
    source = "Multi-source model-distributed inference, ICASSPW 2023 (reading: pa-mdi with equal priorities)"

    def urgency(self, urgency: float) -> float:
        return 1.0
