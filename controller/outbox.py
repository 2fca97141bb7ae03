"""Documents on their way to the broker: a window of them in the connection's queue, the others wait here unwritten.

An epoch of a large fleet is hundreds of megabytes of JSON. All at once, they would stand in the way of everything else
the controller says, and two epochs of them would overflow the connection's queue, which drops what it has no room for.
Here a device that waits is told its newest document only, and no number of documents is too many.

What was handed over on a connection that has ended is forgotten with it: ``again`` begins anew, and a document that the
connection still carries from before goes first, so that an older one never follows a newer one.
"""

from typing import Callable, Dict, Mapping, Protocol

import msgspec

from pamdi.core.allocation import DeviceAllocation

WINDOW_BYTES_MAX = 8 * 2**20  # handed over and not acknowledged; a document more where the last is the larger one

Documents = Mapping[str, DeviceAllocation]


class Publish(Protocol):
    """Of one device's document: False where there is no room. ``done`` hears whether the broker accepted it."""

    def __call__(self, id: str, payload: bytes, done: Callable[[bool], None]) -> bool: ...


class Outbox:
    """``publish`` is called whenever there is something to say and room in the window."""

    def __init__(self, publish: Publish, log: Callable[[str], None]) -> None:
        self._publish, self._log = publish, log
        self._waiting: Dict[str, DeviceAllocation] = {}
        self._refused: Dict[str, DeviceAllocation] = {}  # by the broker: tried again with the next that are told
        self._life = 0
        self._handed_over_bytes = 0
        self._full = False

    def tell(self, documents: Documents) -> None:
        """Newer ones than were told before."""
        if documents:
            self._waiting.update({**self._refused, **documents})
            self._refused.clear()
            self.go_on()

    def again(self, documents: Documents) -> None:
        """All there are: a new connection, whose broker may have forgotten everything."""
        self._life += 1
        self._handed_over_bytes = 0
        self._waiting = dict(documents)
        self._refused.clear()
        self.go_on()

    def waiting(self) -> int:
        """How many devices' documents have not been handed over."""
        return len(self._waiting)

    def go_on(self) -> None:
        """Call this from time to time, too: the connection may have room again."""
        while self._waiting and self._handed_over_bytes < WINDOW_BYTES_MAX:
            id, document = next(iter(self._waiting.items()))
            payload = msgspec.json.encode(document)
            if not self._publish(id, payload, self._when_done(id, document, len(payload))):
                self._say_full()
                return
            self._full = False
            del self._waiting[id]
            self._handed_over_bytes += len(payload)

    def _when_done(self, id: str, document: DeviceAllocation, nbytes: int) -> Callable[[bool], None]:
        life = self._life

        def done(accepted: bool) -> None:
            if life != self._life:
                return
            self._handed_over_bytes -= nbytes
            if not accepted and id not in self._waiting:
                self._refused[id] = document
            self.go_on()

        return done

    def _say_full(self) -> None:
        """Once, until it has room again."""
        if not self._full:
            self._full = True
            self._log(
                f"the queue to the broker is full: {len(self._waiting)} devices' documents wait here until it has "
                "room; look at the broker and the network"
            )
