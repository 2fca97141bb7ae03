"""What `pamdi doctor --config controller.toml` says of the fleet: each board and link that is not as its file states,
in the words of the controller's log. Nothing is measured here; what devices and controller retain is read.
"""

import asyncio
from typing import List

from pamdi.cli.doctor_findings import ODD, Finding
from pamdi.client.broker_config import BrokerConfig
from pamdi.client.watcher import Watcher
from pamdi.controller.fleet import DeviceEntry
from pamdi.controller.measured_links import Figures, stated_by
from pamdi.controller.network import Network
from pamdi.controller.rollout import Rollout
from pamdi.controller.wanted import Wanted
from pamdi.core.errors import Unreachable

CONNECT_S_MAX = 5.0
LISTEN_S = 1.0  # retained topics come at once


def about_fleet(broker: BrokerConfig, wanted: Wanted) -> List[Finding]:
    """Nothing where the broker does not answer: that has been said already."""
    try:
        watcher = asyncio.run(_listen(broker))
    except Unreachable:
        return []
    return [*_conditions(watcher, wanted), *_links(watcher, wanted)]


async def _listen(broker: BrokerConfig) -> Watcher:
    watcher = Watcher(broker)
    await watcher.start()
    assert watcher.mqtt is not None
    try:
        await watcher.mqtt.reached(CONNECT_S_MAX)
        await asyncio.sleep(LISTEN_S)
    finally:
        await watcher.stop()
    return watcher


def _conditions(watcher: Watcher, wanted: Wanted) -> List[Finding]:
    """What the controller's own eyes see in what is retained: it is asked as if it had just started."""
    rollout = Rollout(wanted)
    for id, info in watcher.infos.items():
        rollout.heard_info(id, info, 0.0)
        rollout.heard_state(id, watcher.states.get(id, ""), 0.0)
        rollout.heard_power_mode(id, watcher.stats[id].power_mode if id in watcher.stats else None)
    return [_finding("device", line) for line in rollout.conditions()]


def _links(watcher: Watcher, wanted: Wanted) -> List[Finding]:
    """Links that the controller plans with as measured. Those that no [[link]] names are measured as a rule."""
    boards = [DeviceEntry(id, info.type, info.memory_bytes) for id, info in watcher.infos.items()]
    state = stated_by(Network(wanted.stated_fleet(boards)), None)
    found = []
    for id, document in sorted(watcher.wanted.items()):
        for neighbour in document.neighbours:
            stated = None if neighbour.via else state(id, neighbour.id)
            planned = Figures(neighbour.rate_bytes_per_s, neighbour.delay_s)
            if stated is not None and stated.figures != planned:
                line = (
                    f"{id} -> {neighbour.id} is planned with {planned.sentence()}, as it is measured, the file states "
                    f"{stated.figures.sentence()}: look at the network, or state what `pamdi calibrate links` finds"
                )
                found.append(_finding("link", line))
    return found


def _finding(name: str, line: str) -> Finding:
    what, _, cure = line.partition(": ")
    return Finding(name, what, ODD, cure)
