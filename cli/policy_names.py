"""``--policy P[,P]``, as the demo and the simulator take it."""

import argparse
from typing import Tuple


def policies(text: str) -> Tuple[str, ...]:
    """The names in ``text``, each once, in its order."""
    from pamdi.core.policy import POLICIES

    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in POLICIES:
            raise argparse.ArgumentTypeError(f"policy {name!r} is unknown: one or more of {', '.join(POLICIES)}")
    return names
