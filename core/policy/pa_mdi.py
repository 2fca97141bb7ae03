"""``pa-mdi``: the paper's rule as we read it: pick the work by urgency and age, then the worker by the ratio."""

from pamdi.core.policy.rule import Policy


class PaMdi(Policy):
    """The defaults of :class:`Policy`, under their name."""
