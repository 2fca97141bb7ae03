"""The class in which a held work queues, everywhere: gamma * alpha as the policy sees it, one class up once it is too
old (the starvation bound)."""

from pamdi.core.context import Context
from pamdi.core.holdings import Held


class Klass:
    def __init__(self, context: Context) -> None:
        self._context = context

    def __call__(self, held: Held) -> float:
        urgency = held.urgency
        if held.age_s_max is not None and self._context.now >= held.born + held.age_s_max:
            urgency = self._context.urgency_above(urgency)
        return self._context.policy.urgency(urgency)
