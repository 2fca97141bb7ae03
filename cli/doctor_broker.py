"""Whether the broker is in reach, lets us in, answers at once, and whether our daemon, or the controller, is on it.

The question asked is the one that a starting daemon asks: ``alive/ask``. We hear our own question, which gives the time
of a round trip, and a running daemon's answer.
"""

import asyncio
import os
import ssl
from typing import List, Optional

from pamdi.cli.doctor_findings import ODD, OK, WRONG, Finding
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.broker_trouble import Trouble
from pamdi.client.loops import run_together, within
from pamdi.client.mqtt import Connection
from pamdi.core.errors import ConfigError
from pamdi.core.topics import Topics

CONTROLLER = "the controller"  # no device can have that id
CONNECT_S_MAX = 5.0
ROUND_TRIPS = 5
ROUND_TRIP_S_MAX = 1.0
ANSWER_S_MAX = 2.0  # a daemon that is busy answers later than the broker
NO_ANSWER = Trouble("no answer", "check the url, a firewall, and that the broker listens on more than loopback")
SLOW_S = 0.035  # a broker or client without TCP_NODELAY adds 40 ms to every exchange


class BrokerVisit:
    """One connection, five questions. ``who``: the device whose daemon should answer them, or CONTROLLER; None: nobody
    need."""

    def __init__(self, broker: BrokerConfig, who: Optional[str]) -> None:
        self._named = who is not None
        topics = Topics(broker.prefix)
        self._ask, self._tell = (
            topics.controller(leaf) if who == CONTROLLER else topics.device(who or "doctor", leaf)
            for leaf in ("alive/ask", "alive/tell")
        )
        self._connection = Connection(broker, f"pamdi-doctor-{os.getpid()}", self._heard)
        self._connection.subscribe(self._ask)
        self._connection.subscribe(self._tell)
        self._echo = asyncio.Event()
        self._answer = asyncio.Event()
        self.connected = False
        self.round_trips_s: List[float] = []
        self.somebody_answers = False

    def _heard(self, topic: str, payload: bytes, retained: bool) -> None:
        self._echo.set()
        if topic == self._tell:
            self.somebody_answers = True
            self._answer.set()

    @property
    def trouble(self) -> Trouble:
        return self._connection.trouble or NO_ANSWER

    async def run(self) -> None:
        """Raises ConfigError for settings that cannot work."""
        await run_together({"broker": self._connection.run(), "questions": self._questions()})

    async def _questions(self) -> None:
        try:
            await within(CONNECT_S_MAX, self._connection.tried.wait())  # there is no second attempt
            self.connected = self._connection.connected.is_set()
            loop = asyncio.get_running_loop()
            for _ in range(ROUND_TRIPS if self.connected else 0):
                self._echo.clear()
                asked_at = loop.time()
                self._connection.publish(self._ask, b"?", 1)
                await within(ROUND_TRIP_S_MAX, self._echo.wait())
                self.round_trips_s.append(loop.time() - asked_at)
            if self.connected and self._named:
                await within(ANSWER_S_MAX, self._answer.wait())
        except asyncio.TimeoutError:
            return


def about_broker(broker: BrokerConfig, who: Optional[str], needed: bool) -> List[Finding]:
    """``who``: the device whose daemon to look for, or CONTROLLER. ``needed``: somebody named the broker, so that its
    absence is not meant."""
    try:
        host, port, tls = broker.address()
        visit = asyncio.run(_visit(broker, who))
    except (ConfigError, ssl.SSLError) as error:
        return [Finding("broker", f"{broker.url}: {error}", WRONG, "mend the [broker] table or the options")]
    if not visit.connected:
        where = f"{host}:{port}{' with TLS' if tls else ''}"
        state = WRONG if needed else ODD
        return [Finding("broker", f"{where} is out of reach: {visit.trouble.said}", state, visit.trouble.cure)]
    findings = [_about_round_trip(f"{host}:{port}", visit.round_trips_s)]
    state = "running" if visit.somebody_answers else "not running"
    if who is not None:
        findings.append(
            Finding("controller", state) if who == CONTROLLER else Finding("daemon", f"{who} is {state}")
        )  # fmt: skip
    return findings


async def _visit(broker: BrokerConfig, who: Optional[str]) -> BrokerVisit:
    visit = BrokerVisit(broker, who)
    await visit.run()
    return visit


def _about_round_trip(where: str, round_trips_s: List[float]) -> Finding:
    if not round_trips_s:
        cure = "the access list must let this user read and write its device's topics (examples/mosquitto.acl)"
        return Finding("broker", f"{where} connects, but our own message did not come back", ODD, cure)
    median_s = sorted(round_trips_s)[len(round_trips_s) // 2]
    value = f"{where} answers in {median_s * 1000:.1f} ms"
    if median_s < SLOW_S:
        return Finding("broker", value, OK)
    return Finding("broker", value, ODD, "set_tcp_nodelay true in mosquitto.conf; or the network is slow")
