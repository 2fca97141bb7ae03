"""Every MQTT topic, in one place. ``build`` and ``parse`` are inverse (a property test says so)."""

import re
from typing import NamedTuple, Optional

import msgspec

PREFIX = "pamdi/v1"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


def valid_id(text: str) -> bool:
    """Whether ``text`` may name a device, a source or a model: letters, digits, ``_ . -``, at most 64."""
    return bool(_ID.match(text))


class Topic(NamedTuple):
    """A parsed topic: ``kind`` is "device", "source" or "controller"; ``id`` is "" for the controller."""

    kind: str
    id: str
    leaf: str


LEAVES = {
    "device": (
        "state", "info", "allocation/set", "allocation/state", "beacon", "stats", "drain", "alive/ask", "alive/tell",
        "frames/urgent", "frames/normal",
    ),
    "source": ("config", "submit", "result", "cancel"),
    "controller": ("state", "reallocate", "report", "alive/ask", "alive/tell"),
}  # fmt: skip


class Topics(msgspec.Struct, frozen=True):
    """Builds and parses the topics below one prefix. ``+`` as an id builds a subscription."""

    prefix: str = PREFIX

    def device(self, id: str, leaf: str) -> str:
        return self._build("device", id, leaf)

    def source(self, id: str, leaf: str) -> str:
        return self._build("source", id, leaf)

    def controller(self, leaf: str) -> str:
        return self._build("controller", "", leaf)

    def _build(self, kind: str, id: str, leaf: str) -> str:
        if leaf not in LEAVES[kind]:
            raise ValueError(f"no topic {kind}/.../{leaf}: one of {', '.join(LEAVES[kind])}")
        if kind != "controller" and id != "+" and not valid_id(id):
            raise ValueError(f"{id!r} cannot be part of a topic: letters, digits, _ . -, at most 64")
        return "/".join(part for part in (self.prefix, kind, id, leaf) if part)

    def parse(self, topic: str) -> Optional[Topic]:
        """The parts of a topic of ours, or None for any other."""
        if not topic.startswith(self.prefix + "/"):
            return None
        kind, _, rest = topic[len(self.prefix) + 1 :].partition("/")
        id = ""
        if kind != "controller":
            id, _, rest = rest.partition("/")
            if not valid_id(id):
                return None
        return Topic(kind, id, rest) if rest in LEAVES.get(kind, ()) else None
