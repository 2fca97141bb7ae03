"""Which of a device's two MQTT connections hears a source's submissions and cancellations.

Sources above the lowest class have a connection of their own, so that an urgent input does not wait behind a normal one
of megabytes. What is lowest changes with the sources that are admitted: a source changes lanes then, and one that is no
longer ours is heard no more. The new lane opens before the old one closes: an input in between comes twice, which its
id makes harmless, and never not at all.
"""

import functools
from typing import Dict, Mapping, Optional

from pamdi.client.mqtt import Connection
from pamdi.core.topics import Topics

LEAVES = ("submit", "cancel")


class Lanes:
    def __init__(self, normal: Connection, urgent: Connection, topics: Topics) -> None:
        self._normal, self._urgent, self._topics = normal, urgent, topics
        self._present: Dict[str, Connection] = {}

    def obey(self, sources: Mapping[str, bool]) -> None:
        """Hear exactly these; the value says whether the source is urgent."""
        wanted = {source: self._urgent if urgent else self._normal for source, urgent in sources.items()}
        before, self._present = self._present, wanted
        for source, lane in wanted.items():
            old = before.get(source)
            if old is not lane:
                for leaf in LEAVES:
                    topic = self._topics.source(source, leaf)
                    lane.subscribe(topic, then=functools.partial(self._close, source, old, topic))
        for source in before:
            if source not in wanted:
                for leaf in LEAVES:
                    for lane in (self._normal, self._urgent):
                        lane.unsubscribe(self._topics.source(source, leaf))

    def _close(self, source: str, old: Optional[Connection], topic: str) -> None:
        """The new lane is open; meanwhile the source may have come back to the old one."""
        if old is not None and self._present.get(source) is not old:
            old.unsubscribe(topic)
