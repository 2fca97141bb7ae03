"""The one door to the core: every event goes through it, whichever socket, thread or timer brought it.

One at a time: an event that comes up while another is handled waits for its turn. Each instruction is done before the
next event is handled. The core's alarm is here too, since it is an event like others.

What the core raises, or whoever does an instruction, is a defect: it has left things half done. It never goes to
whoever brought the event, who would take it for a fault of its own (a link that closes, a payload that cannot be read,
a timer that nobody looks at). The door closes, whichever way the event came, and the process ends loudly: whoever
handed us works has them still and hands them on, and our own are in the journal, from which the next life begins.
"""

import asyncio
import time
from collections import deque
from typing import Any, Callable, Deque, Mapping, Optional, Type

from pamdi.core import events as ev
from pamdi.core.device import Device
from pamdi.core.errors import EngineError
from pamdi.daemon.engine_room import after_pieces
from pamdi.daemon.recorder import Recorder


class Door:
    """``doers``: who does each instruction, by its class; given before the first event, since they need the door
    themselves. ``settled``: called when nothing is left to handle. ``broken``: gets what was raised; it is the
    process's end."""

    def __init__(
        self,
        device: Device,
        settled: Callable[[], None],
        broken: "asyncio.Future[None]",
        recorder: Optional[Recorder],
        log: Callable[[str], None],
    ) -> None:
        self._device, self._settled = device, settled
        self._broken, self._recorder, self._log = broken, recorder, log
        self.doers: Mapping[Type[Any], Callable[[Any], None]] = {}
        self._loop = asyncio.get_running_loop()
        self._waiting: Deque[Any] = deque()
        self._handling = self._closed = False
        self._wake: Optional[asyncio.TimerHandle] = None
        self._wake_at: Optional[float] = None

    def happened(self, event: Any) -> None:
        """Never raises."""
        if self._closed:
            return
        self._waiting.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._waiting:
                event = self._waiting.popleft()
                self._handle(event)
            self._settled()
            self._set_alarm()
        except Exception as error:
            self._break(error, event)
        self._handling = False

    def from_thread(self, event: Any) -> None:
        self._loop.call_soon_threadsafe(self.happened, event)

    def close(self) -> None:
        """What still comes has come too late."""
        self._closed = True
        self._waiting.clear()
        if self._wake is not None:
            self._wake.cancel()
        if self._recorder is not None:
            self._recorder.close()

    def _handle(self, event: Any) -> None:
        now, said = time.monotonic(), []
        try:
            said = self._device.handle(event, now)
        finally:
            if self._recorder is not None:  # above all what makes the core raise
                self._recorder.happened(now, event, said)
        for instruction in sorted(said, key=after_pieces):
            self.doers[type(instruction)](instruction)

    def _break(self, error: Exception, event: Any) -> None:
        if not isinstance(error, EngineError):  # what lay on a GPU cannot be read any more: no defect of ours
            self._log(
                f"a defect came to light at {type(event).__name__}: this daemon ends, to begin anew with its journal; "
                "`record` in daemon.toml keeps what leads to it: please report that"
            )
        self.close()
        if not self._broken.done():
            self._broken.set_exception(error)

    def _set_alarm(self) -> None:
        """One timer, for the core's next moment. The loop's own clock is too coarse to be the core's."""
        at = self._device.wake_at()
        if at == self._wake_at and self._wake is not None:
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wake_at = at
        self._wake = None if at is None else self._loop.call_later(max(0.0, at - time.monotonic()), self._alarm)

    def _alarm(self) -> None:
        self._wake = None
        at = self._device.wake_at()
        if at is not None and at > time.monotonic():  # a timer may fire a tick early
            self._set_alarm()
        else:
            self.happened(ev.Woken())
