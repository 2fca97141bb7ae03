"""``pa-mdi-pairwise``: the literal reading of the paper, the smallest ratio over all (task, worker) pairs.

A work's place in a queue is then its own best ratio: of two works that would cost the same seconds, +A in the
numerator puts the *younger* first, divided by gamma * alpha. Old work can starve; that is what this reading says,
and why it is not the default. Inferred: the paper does not say over what it minimises.
"""

from typing import Tuple

from pamdi.core.policy.rule import Policy, Waiting


class PaMdiPairwise(Policy):
    name = "pa-mdi-pairwise"
    youngest_first = True

    def rank(self, work: Waiting, now: float) -> Tuple[float, ...]:
        # A / (gamma * alpha): all that differs between two works for one worker, once D, W * c and Q are equal.
        return ((now - work.born) / work.urgency,)
