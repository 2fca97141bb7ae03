"""Who has a name. A device's id, and the controller's place, belong to one living process.

A newcomer asks first, under a client id of its own, with its instance number. Whoever holds the name tells, and the
newcomer ends with one line. Of two who ask at the same time the one with the smaller number stays: who hears the ask
of a smaller one ends, who hears that of a larger one asks again, so that it is heard. The asking connection stays until
the real one is up, since in between nobody else would answer for this process.

Should two hold the name all the same (one of them was busy for long when it was asked), the broker ends the connection
of each again and again. Then both ask once more, and the larger number yields to what the smaller one tells.
"""

import asyncio
import contextlib
from typing import Any, Coroutine

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.loops import run_together, within
from pamdi.client.mqtt import Connection
from pamdi.core.errors import ConfigError

CONNECT_S = 1.0  # a newcomer waits so long for the broker, then begins without having asked, and asks when it can
ANSWER_S = 0.5  # after the broker has handed the question on, which we hear
ECHO_S_MAX = 5.0  # for that; and where the access list keeps it from us
CONTESTED_ASKS = 20
NUMBER_BYTES_MAX = 20


class Claim:
    """``ask`` and ``tell`` are topics; ``lost`` is what a person is told. ``keep`` runs beside what bears the name;
    ``free`` waits until that may begin; ``up`` is for it to set when it hears ``ask`` itself, and answers with
    ``instance`` if ``holds``."""

    def __init__(self, broker: BrokerConfig, name: str, ask: str, tell: str, instance: int, lost: str) -> None:
        self._ask, self._tell, self._lost = ask, tell, lost
        self.instance = instance
        self.holds = False
        self.up = asyncio.Event()
        self._connection = Connection(broker, f"{name}-ask-{instance}", self._heard)
        for topic in (ask, tell):
            self._connection.subscribe(topic)
        self._yields, self._settled, self._contested = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._echo = asyncio.Event()

    async def free(self) -> None:
        """Wait until nobody seems to hold the name, or no broker is there to know."""
        with contextlib.suppress(asyncio.TimeoutError):
            await within(CONNECT_S, self._connection.connected.wait())
            await self._settled.wait()

    async def keep(self) -> None:
        """For ever. Raises ConfigError when somebody else holds the name."""
        await self._visit(self._take())
        while True:
            await self._contested.wait()
            await self._visit(self._defend())
            self._contested.clear()

    def contest(self) -> None:
        """Somebody else seems to bear the name: ask again."""
        self._contested.set()

    async def _visit(self, errand: Coroutine[Any, Any, None]) -> None:
        await run_together({"broker": self._connection.run(), "errand": errand, "yield": self._until_it_yields()})
        if self._yields.is_set():
            raise ConfigError(self._lost)

    async def _until_it_yields(self) -> None:
        await self._yields.wait()

    async def _take(self) -> None:
        await self._connection.connected.wait()
        self._say(self._ask)
        with contextlib.suppress(asyncio.TimeoutError):
            await within(ECHO_S_MAX, self._echo.wait())
        await asyncio.sleep(ANSWER_S)
        self.holds = True
        self._settled.set()
        await self.up.wait()

    async def _defend(self) -> None:
        await self._connection.connected.wait()
        for _ in range(CONTESTED_ASKS):
            self._say(self._ask)
            await asyncio.sleep(ANSWER_S)

    def _say(self, topic: str) -> None:
        self._connection.publish(topic, str(self.instance).encode(), 1)

    def _heard(self, topic: str, payload: bytes, retained: bool) -> None:
        number = len(payload) <= NUMBER_BYTES_MAX and payload.isdigit()
        if retained or not number:
            return  # an ask without a number is a question only
        if int(payload) == self.instance:
            self._echo.set()
            return
        smaller = int(payload) < self.instance
        if topic == self._tell:
            if smaller or not self.holds:
                self._yields.set()
        elif self.holds:
            self._say(self._tell)
        elif smaller:
            self._yields.set()
        else:
            self._say(self._ask)
