"""What a device does for others: it hands envelopes on, unopened, from one of its links to the next.

Store and forward: each link of the way is paced and ordered by urgency on its own, as the cost model has it. Nothing is
kept beyond the link's queue. What cannot go on is dropped, and both ends are told, since a tunnel must not lose in
silence; so are those whose envelopes went over a link that has now failed, for they may have died in its queue.
"""

from collections import OrderedDict
from typing import Any, Callable, Tuple

import msgspec

from pamdi.daemon.envelope import Envelope

PASSED_MAX = 4096  # pairs remembered: more than a device on the way of a large fleet serves

SendOn = Callable[[str, Envelope, Tuple[Any, ...]], bool]


class Relay:
    """``send_on(neighbour, envelope, body)``: False when there is no link or no room."""

    def __init__(self, device: str, send_on: SendOn) -> None:
        self._device, self._send_on = device, send_on
        self._passed: "OrderedDict[Tuple[str, Tuple[str, ...], Tuple[str, ...]], None]" = OrderedDict()
        self.relayed = self.dropped = 0

    def forward(self, envelope: Envelope, body: memoryview, transit_s: float) -> None:
        """``envelope.way`` begins with this device and does not end here."""
        on = msgspec.structs.replace(
            envelope, way=envelope.way[1:], behind=(*envelope.behind, self._device),
            waited_s=envelope.waited_s + transit_s,
        )  # fmt: skip
        following = on.way[0]
        if self._send_on(following, on, (body,) if len(body) else ()):
            self.relayed += 1
            self._remember((following, envelope.behind, on.way))
        elif envelope.header and not envelope.dropped:
            self.dropped += 1
            self._tell_back(envelope.behind, on.way)

    def link_down(self, neighbour: str) -> None:
        for key in [key for key in self._passed if key[0] == neighbour]:
            del self._passed[key]
            self._tell_back(key[1], key[2])

    def _remember(self, key: Tuple[str, Tuple[str, ...], Tuple[str, ...]]) -> None:
        self._passed[key] = None
        self._passed.move_to_end(key)
        if len(self._passed) > PASSED_MAX:
            self._passed.popitem(last=False)

    def _tell_back(self, behind: Tuple[str, ...], way: Tuple[str, ...]) -> None:
        """To the sender, the way it came; the target learns it from the sender's next session."""
        back = tuple(reversed(behind))
        notice = Envelope(back, (*reversed(way), self._device), dropped=True, urgency=float("inf"))
        self._send_on(back[0], notice, ())
