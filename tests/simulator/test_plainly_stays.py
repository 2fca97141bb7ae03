"""Most works go on where they are, and the core sees that by a look at the nearest neighbour alone. This says that the
short look never differs from the whole question."""

from typing import List

import pytest

from pamdi.core.asking import Asking
from pamdi.core.policy import Waiting
from pamdi.simulator.random_scenario import random_scenario
from pamdi.simulator.run import run_world

SEEDS = range(1, 31)


def test_what_plainly_stays_is_what_the_policy_picks(monkeypatch: pytest.MonkeyPatch) -> None:
    short_look = Asking.stays
    plain: List[int] = []

    def compared(self: Asking, model: str, boundary: int, klass: float, nbytes: int) -> bool:
        stays = short_look(self, model, boundary, klass, nbytes)
        if stays:
            here = self._context.device
            view = Waiting("gate", "w", here, boundary, klass, self._context.now - 1.0, continuing=True)
            best = self.best(view, model, nbytes)
            assert best is not None and best.device == here, (model, boundary, klass, best)
            plain.append(boundary)
        return stays

    monkeypatch.setattr(Asking, "stays", compared)
    for seed in SEEDS:
        scenario = random_scenario(seed)
        run_world(scenario, scenario.run.policies[0], seed)
    assert len(plain) > 1000
