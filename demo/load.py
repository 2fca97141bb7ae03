"""The demo's load: Poisson arrivals per source, real digits, every answer compared with the uncut model's.

Each source has its own client, hence its own MQTT connection, and its own stream of arrivals, seeded by (seed, source
id): a source sees the same arrivals whoever else is there and whatever the policy is.
"""

import asyncio
import random
import time
from typing import Callable, Dict, List, Optional

import numpy as np

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.client import Client
from pamdi.client.figures import Outcome
from pamdi.core.errors import PamdiError
from pamdi.engines.digits import load
from pamdi.engines.export import OURS
from pamdi.engines.onnxruntime_backend import OnnxRuntimeBackend

PATIENCE_S = 120.0  # without an end for so long, beyond what a policy that cannot keep up needs, a work is lost


class Digits:
    """The test digits, and what the uncut model says to each: with optimisation off, bit for bit."""

    def __init__(self) -> None:
        self.images, self.labels = load("test")
        session = OnnxRuntimeBackend(1, "off").session(OURS["resnet56"])
        self.logits = [session.run(["logits"], {"image": image[None]})[0] for image in self.images]

    def exact(self, index: int, logits: "np.ndarray") -> bool:
        return bool(logits.tobytes() == self.logits[index].tobytes())

    def correct(self, index: int, logits: "np.ndarray") -> bool:
        return bool(logits.argmax() == self.labels[index])


class Load:
    """Works of one phase. ``outcomes`` grows as works end; ``submitted`` counts what went out."""

    def __init__(self, url: str, digits: Digits, seed: int, phase: str) -> None:
        self._broker, self._digits, self._seed, self._phase = BrokerConfig(url), digits, seed, phase
        self.outcomes: Dict[str, List[Outcome]] = {}
        self.submitted: Dict[str, int] = {}
        self.wanted: Dict[str, int] = {}
        self.duplicated: Dict[str, int] = {}
        self.redelivered: Dict[str, int] = {}

    async def run(
        self, source: str, works: int, rate_hz: float, after_s: float = 0.0,
        on_submit: Optional[Callable[[int], None]] = None,
    ) -> None:  # fmt: skip
        """Submit ``works`` works of ``source`` and wait for their ends."""
        self.outcomes[source], self.submitted[source], self.wanted[source] = [], 0, works
        arrivals = random.Random(f"{self._seed}/{source}")
        patience_s = PATIENCE_S + 4 * works / rate_hz
        await asyncio.sleep(after_s)
        async with Client(self._broker, retry_refused_s=patience_s) as client:
            await client.connected()
            at = time.monotonic()
            tasks = []
            for i in range(works):
                at += arrivals.expovariate(rate_hz)
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                tasks.append(asyncio.ensure_future(self._one(client, source, i, patience_s)))
                self.submitted[source] += 1
                if on_submit is not None:
                    on_submit(i)
            await asyncio.gather(*tasks)
            await asyncio.sleep(0.3)  # a second answer for an id would come about now
            self.duplicated[source], self.redelivered[source] = client.duplicated, client.redelivered

    async def _one(self, client: Client, source: str, i: int, patience_s: float) -> None:
        index = random.Random(f"{self._seed}/{source}/{i}").randrange(len(self._digits.images))
        began = time.monotonic()
        id = f"{self._phase}-{i}"
        try:
            answer = await client.submit(
                source, {"image": self._digits.images[index][None]}, id=id, timeout_s=patience_s
            )  # fmt: skip
        except PamdiError as error:
            self.outcomes[source].append(Outcome(source, id, began, None, "", str(error)))
            return
        logits = answer.outputs.get("logits")
        self.outcomes[source].append(
            Outcome(
                source,
                id,
                began,
                time.monotonic(),
                answer.status,
                answer.reason,
                logits is not None and self._digits.exact(index, logits),
                logits is not None and self._digits.correct(index, logits),
                self._digits.correct(index, self._digits.logits[index]),
                answer.path,
                answer.replayed,
                answer.retried,
            )  # fmt: skip
        )
