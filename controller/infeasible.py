"""A fleet that cannot do what is asked of it: which source, which memory or which rate, and by how much."""

from typing import Mapping

from pamdi.core.errors import PamdiError

NAMED_MAX = 3


class Infeasible(PamdiError):
    """Some sources cannot be served: ``refused[source]`` says which memory or rate is missing, and how much of it."""

    def __init__(self, refused: Mapping[str, str]) -> None:
        self.refused = dict(refused)
        named = [f"source {id}: {why}" for id, why in sorted(refused.items())]
        more = [f"and {len(named) - NAMED_MAX} more sources"] if len(named) > NAMED_MAX else []
        super().__init__("; ".join(named[:NAMED_MAX] + more))
