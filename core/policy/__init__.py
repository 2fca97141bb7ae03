"""Policies side by side: which work next, and which worker next. Pure functions over plain values."""

from typing import Dict

from pamdi.core.errors import ConfigError
from pamdi.core.policy.ar_mdi import ArMdi
from pamdi.core.policy.as_if_alone import AsIfAlone
from pamdi.core.policy.ddi import Ddi
from pamdi.core.policy.local import Local
from pamdi.core.policy.ms_mdi import MsMdi
from pamdi.core.policy.pa_mdi import PaMdi
from pamdi.core.policy.pa_mdi_pairwise import PaMdiPairwise
from pamdi.core.policy.rule import Candidate, Policy, Waiting

POLICIES: Dict[str, Policy] = {
    policy.name: policy for policy in (PaMdi(), AsIfAlone(), PaMdiPairwise(), MsMdi(), ArMdi(), Local(), Ddi())
}


def policy_named(name: str) -> Policy:
    """Raises ConfigError for a name that is not one of ours."""
    if name not in POLICIES:
        raise ConfigError(f"policy {name!r} is unknown: one of {', '.join(POLICIES)}")
    return POLICIES[name]


__all__ = ["POLICIES", "Candidate", "Policy", "Waiting", "policy_named"]
