"""The threads that touch engines: one runs and unloads them, one loads them, one sends inputs ahead.

Nothing but the runner may call the back end's ``run``. Loading has a thread of its own so that a new engine does not
stop the work of the old ones. So has the third, since the runner waits for the GPU just when the next inputs should be
on their way; it is there only where a back end can do something ahead. A GPU's context belongs to none: the back end
makes it the calling thread's own for as long as each call lasts.

Outputs may stay on the GPU. Those that are likely to leave the device begin to come when they are made, so that their
bytes are here by the time that somebody reads them, while the next piece already computes.
"""

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence

from pamdi.core.compute import Upcoming
from pamdi.core.device import Device
from pamdi.core.errors import BadInput, PamdiError
from pamdi.core.events import (
    EngineFailed,
    EngineLoaded,
    EngineUnloaded,
    InferenceFailed,
    Inferred,
    InferredTogether,
    Outcome,
)
from pamdi.core.instructions import Infer, InferTogether, Load, Part, Unload
from pamdi.core.segment import Segment
from pamdi.daemon.arrays import nbytes
from pamdi.daemon.host import memory_available_bytes
from pamdi.engines.backend import Backend, Prepares
from pamdi.engines.manifest import read_manifest
from pamdi.engines.resident import Resident

THREADS = ("runner", "loader", "preparer")
MARGIN_BYTES = 64 * 2**20  # what a load must leave free: CPU and GPU share a Jetson's memory


class EngineRoom:
    """Outcomes come through ``on_event``, in the loop."""

    def __init__(
        self,
        backend: Backend,
        store: Path,
        on_event: Callable[[Any], None],
        log: Callable[[str], None],
        pull: Optional[Callable[[Segment, str], None]] = None,
        trusted_keys: Sequence[str] = (),
        is_urgent: Callable[[float], bool] = lambda urgency: False,
    ) -> None:
        """``pull(segment, digest)``: make it present in ``store``, from where devices get what they lack.
        ``is_urgent(urgency)``: above the lowest class."""
        self._is_urgent = is_urgent
        self._pull, self._trusted_keys = pull, trusted_keys
        self._backend, self._store, self._on_event, self._log = backend, store, on_event, log
        self._handles: Dict[Segment, Any] = {}
        self._loop = asyncio.get_running_loop()
        self._runner, self._loader, preparer = (ThreadPoolExecutor(1, name) for name in THREADS)
        self._preparer = preparer if isinstance(backend, Prepares) else None
        self._hint: Optional[Upcoming] = None
        self._looked_at = -1
        self.busy_s = 0.0
        self.runs = 0
        self._batched = 0
        self._loading_since: Optional[float] = None

    def counters(self) -> Dict[str, int]:
        """Of the executor and its back end."""
        return {"works_in_batches": self._batched, **self._backend.counters}

    def loading_s(self, now: float) -> Optional[float]:
        """Seconds since the back end began the load that it is at; None while it is at none."""
        since = self._loading_since
        return None if since is None else now - since

    def infer(self, instruction: Infer, leaves: Sequence[bool] = (True,)) -> None:
        """``leaves``: whether the outputs are likely to be read elsewhere next, by work."""
        self._runner.submit(self._infer, instruction, self._is_urgent(instruction.urgency), leaves)

    def infer_together(self, instruction: InferTogether, leaves: Sequence[bool] = ()) -> None:
        self._runner.submit(self._infer_together, instruction, self._is_urgent(instruction.urgency), leaves)

    def look_ahead(self, device: Device) -> None:
        """While a piece computes, what is likely to come next may be on its way. One hint waits at most, the newest."""
        here = device.context.here
        if self._preparer is None or here == self._looked_at:
            return
        self._looked_at = here
        hint = device.upcoming()
        waits, self._hint = self._hint is not None, hint
        if hint is not None and not waits:
            self._preparer.submit(self._prepare)

    def load(self, instruction: Load) -> None:
        self._loader.submit(self._load, instruction)

    def unload(self, instruction: Unload) -> None:
        # In the runner's turn: after every run that was asked for before.
        self._runner.submit(self._unload, instruction.segment)

    def close(self) -> None:
        self._runner.shutdown(wait=False)
        self._loader.shutdown(wait=False)
        if self._preparer is not None:
            self._preparer.shutdown(wait=False)

    def _say(self, event: Any) -> None:
        self._loop.call_soon_threadsafe(self._on_event, event)

    def _say_line(self, line: str) -> None:
        self._loop.call_soon_threadsafe(self._log, line)

    def _prepare(self) -> None:
        hint, self._hint = self._hint, None
        handle = self._handles.get(hint.segment) if hint is not None else None
        if hint is None or handle is None or not isinstance(self._backend, Prepares):
            return
        with contextlib.suppress(Exception):  # if it matters, the run will say so, and whose it is
            self._backend.prepare(handle, hint.payloads)

    def _infer(self, instruction: Infer, urgent: bool, leaves: Sequence[bool]) -> None:
        began = time.monotonic()
        try:
            outputs = self._backend.run(self._handles[instruction.segment], instruction.payload, urgent)
            _bring([outputs], leaves)
            size = nbytes(outputs)
        except Exception as error:  # a vendor's runtime may raise anything; the work goes elsewhere, with the reason
            self._say(InferenceFailed(instruction.key, _reason(error)))
            return
        seconds = time.monotonic() - began
        self.busy_s += seconds
        self.runs += 1
        self._say(Inferred(instruction.key, outputs, size, seconds))

    def _infer_together(self, instruction: InferTogether, urgent: bool, leaves: Sequence[bool]) -> None:
        began = time.monotonic()
        parts = instruction.parts
        try:
            handle = self._handles[instruction.segment]
            made = self._backend.run_together(handle, [part.payload for part in parts], urgent)
            _bring(made, leaves or [True] * len(made))
            outcomes = tuple(map(_outcome, parts, made))
        except Exception as error:  # the contract says never; see _infer
            outcomes = tuple(_outcome(part, error) for part in parts)
        seconds = time.monotonic() - began
        self.busy_s += seconds
        self.runs += 1
        self._batched += len(parts)
        self._say(InferredTogether(outcomes, seconds))

    def _load(self, instruction: Load) -> None:
        segment = instruction.segment
        try:
            if self._pull is not None:
                self._pull(segment, instruction.digest)
            self._check(instruction)
            batch_max = self._load_checked(segment)
        except PamdiError as error:
            self._say(EngineFailed(segment, str(error)))
        except Exception as error:  # see _infer
            self._say(EngineFailed(segment, f"{type(error).__name__}: {error}"))
        else:
            self._say(EngineLoaded(segment, batch_max))

    def _load_checked(self, segment: Segment) -> int:
        """Returns how many works the engine takes at once."""
        self._loading_since = time.monotonic()
        try:
            handle = self._backend.load(self._store / segment.model, segment)
            batch_max = self._backend.batch_max(handle)
        finally:
            self._loading_since = None
        self._handles[segment] = handle
        return batch_max

    def _check(self, instruction: Load) -> None:
        segment = instruction.segment
        manifest = read_manifest(self._store / segment.model, self._trusted_keys)
        info = manifest.segment(segment.first, segment.stop)
        if instruction.digest and info.sha256 != instruction.digest:
            raise BadInput(
                f"{self._store / segment.model}: holds {segment} as {info.sha256[:12]}, wanted is "
                f"{instruction.digest[:12]}: copy the controller's export of {segment.model} to this device"
            )
        available = memory_available_bytes()
        if available is not None and available < instruction.memory_bytes + MARGIN_BYTES:
            raise BadInput(
                f"{segment} needs {instruction.memory_bytes} bytes, {available} are free: lower memory_bytes in "
                "daemon.toml or free memory"
            )

    def _unload(self, segment: Segment) -> None:
        handle = self._handles.pop(segment, None)
        try:
            if handle is not None:
                self._backend.unload(handle)
        except Exception as error:  # see _infer; it is gone for us, whatever it still holds
            self._say_line(f"{segment} was not unloaded cleanly: {_reason(error)}")
        self._say(EngineUnloaded(segment))


def after_pieces(instruction: Any) -> bool:
    """Sorts an event's instructions so that the executor is told first: to send what it has just made may have to wait
    until that has come from the GPU. All else keeps the core's order."""
    return not isinstance(instruction, (Infer, InferTogether))


def _bring(made: Sequence[Any], leaves: Sequence[bool]) -> None:
    for outputs, leaving in zip(made, leaves):
        if leaving and isinstance(outputs, Resident):
            outputs.bring()


def _outcome(part: Part, made: Any) -> Outcome:
    if isinstance(made, Exception):
        return Outcome(part.key, detail=_reason(made))
    return Outcome(part.key, made, nbytes(made))


def _reason(error: Exception) -> str:
    return error.detail if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
