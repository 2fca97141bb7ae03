"""Engines for all segments of a folder, one after the other, each whole or absent.

A segment whose engine is there already, built from the same graph with the same TensorRT for the same device with the
same settings, is left alone: a build that was killed at any moment goes on where it stopped, and a second one builds
nothing. Plans of TensorRT are not the same bytes twice, so it is what went in that decides, never a plan's digest.

A plan is written under a hidden name, taken into the store as an object, and published with the manifest that names it.
What a kill leaves is a hidden file, which the next build removes, or an object that nobody names, which is swept.
"""

import contextlib
import fcntl
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import msgspec

from pamdi.core.errors import EngineError
from pamdi.engines.device_types import DeviceType, device_type
from pamdi.engines.half_store import read_about
from pamdi.engines.here import Here
from pamdi.engines.int8 import RANGES, read_examples
from pamdi.engines.manifest import EngineInfo, Manifest, SegmentInfo, checked_file, read_manifest, sha256_of
from pamdi.engines.store import Store
from pamdi.engines.tensorrt_builder import BACKENDS
from pamdi.engines.tensorrt_versions import TABLE, cannot, version_row

PRECISIONS = ("fp16", "fp32", "int8")
BATCHES = (1, 4, 8)
WORKSPACE_SHARE = 0.25  # of the board's memory, which its CPU and the rest of the build need too
LOCK = ".building.lock"
UNFINISHED = ".building-"


class Wanted(NamedTuple):
    """``workspace_bytes``: None for a quarter of the smallest board's memory, or of this machine's if that is less.
    ``inputs``: what INT8 is calibrated on, an .npz file; nothing else is ever made INT8. ``ranges``: how; see int8."""

    device: str
    backend: str = "tensorrt"
    precision: str = "fp16"
    batches: Tuple[int, int, int] = BATCHES
    workspace_bytes: Optional[int] = None
    inputs: Optional[Path] = None
    ranges: str = "entropy"


class Step(NamedTuple):
    """Progress. ``left_s``: what remains, by the bytes of graph still to build at the pace so far; None before the
    first. ``engine``: None while it is being built, and then ``phase`` is TensorRT's own word where it has one."""

    done: int
    of: int
    segment: SegmentInfo
    phase: str
    left_s: Optional[float]
    engine: Optional[EngineInfo] = None


class Outcome(NamedTuple):
    manifest: Manifest
    built: Tuple[EngineInfo, ...]
    kept_before: int


def build(folder: Path, wanted: Wanted, here: Here, progress: Callable[[Step], None] = lambda step: None) -> Outcome:
    """Build what is missing. Raises EngineError in one line: nothing was started, or what is built stays built."""
    manifest = read_manifest(folder)
    device = _possible(folder, manifest, wanted, here)
    store = Store(folder)
    with _alone(folder), store.adding(), _Worker(wanted.backend, folder) as worker:
        _refuse_what_it_cannot(worker.row, manifest, wanted)
        mark = _mark(wanted, device, here, worker.version)
        todo = [info for info in manifest.segments if not _is_built(folder, manifest, info, mark)]
        built: List[EngineInfo] = []
        pace = _Pace([(folder / info.onnx).stat().st_size for info in todo])
        for number, info in enumerate(todo):

            def tell(phase: str, number: int = number, info: SegmentInfo = info) -> None:
                progress(Step(number, len(todo), info, phase, pace.left_s(number)))

            tell("")
            engine = _build_one(folder, manifest, info, mark, worker, _job(folder, info, wanted, device, here), tell)
            built.append(engine)
            manifest = _publish(
                store, manifest, engine, folder / f"{UNFINISHED}{engine.first:04d}-{engine.stop:04d}.plan"
            )
            progress(Step(number + 1, len(todo), info, "", pace.left_s(number + 1), engine))
    store.sweep()
    return Outcome(manifest, tuple(built), len(manifest.segments) - len(todo))


def _possible(folder: Path, manifest: Manifest, wanted: Wanted, here: Here) -> DeviceType:
    """What can be known before TensorRT is even imported. Raises EngineError with both sides and the cure."""
    device = device_type(wanted.device)
    if wanted.backend not in BACKENDS:
        raise EngineError(f"backend {wanted.backend!r} builds nothing: one of {', '.join(BACKENDS)}")
    if wanted.precision not in PRECISIONS or (wanted.precision != "fp16" and read_about(folder, manifest)):
        raise EngineError(
            f"{folder}: precision {wanted.precision} is not possible: {', '.join(PRECISIONS)}, fp16 for a halved folder"
        )
    if (wanted.precision == "int8") != (wanted.inputs is not None):
        raise EngineError("int8 and inputs go together: --precision int8 --inputs FILE.npz, which decide what it loses")
    if wanted.inputs is not None:
        read_examples(wanted.inputs, manifest)
    if wanted.ranges not in RANGES:
        raise EngineError(f"ranges {wanted.ranges!r} are unknown: one of {', '.join(RANGES)}")
    small, usual, large = wanted.batches
    if not 1 <= small <= usual <= large:
        raise EngineError(f"batches {small},{usual},{large}: give SMALLEST,USUAL,LARGEST in order, from 1")
    x86 = device.name.startswith("x86-")
    if device.tensorrt:
        dtypes = [tensor.dtype for boundary in manifest.boundaries for tensor in boundary]
        for reason in cannot(version_row(device.tensorrt), dtypes):
            raise EngineError(f"{device.name}: JetPack {device.jetpack}, Python {device.python}: {reason}")
    if wanted.backend == "tensorrt-rtx" and not x86:
        raise EngineError(
            f"{device.name}: TensorRT-RTX is not Jetson's TensorRT: build for x86-<cc>, or --backend tensorrt"
        )
    if not x86 and here.device_type != device.name:
        raise EngineError(
            f"engines for {device.name} are built on {device.name} boards; this one is {here.device_type or 'none'} "
            f"({here.description}): copy {folder} to one and run `pamdi engines build {folder.name} --device "
            f"{device.name}` there"
        )
    return device


def _refuse_what_it_cannot(row_name: str, manifest: Manifest, wanted: Wanted) -> None:
    row = next(row for row in TABLE if row.name == row_name)
    dtypes = [tensor.dtype for boundary in manifest.boundaries for tensor in boundary]
    for reason in cannot(row, dtypes):
        raise EngineError(f"{manifest.model} for {wanted.device}: {reason}")


def _mark(wanted: Wanted, device: DeviceType, here: Here, tensorrt: str) -> Dict[str, Any]:
    """What an engine built now would say of itself, but for its segment. The first seven decide; see _is_built."""
    return {
        "device_type": device.name, "backend": wanted.backend, "precision": wanted.precision, "tensorrt": tensorrt,
        "compute_capability": device.compute_capability, "batches": wanted.batches, "flags": _flags(wanted),
        "cuda": here.cuda, "l4t": here.l4t, "power_mode": here.power_mode,
    }  # fmt: skip


def _flags(wanted: Wanted) -> Tuple[str, ...]:
    if wanted.inputs is None:
        return ("detailed",)
    return ("detailed", f"int8, ranges by {wanted.ranges}, on {sha256_of(wanted.inputs)[:12]}")


DECIDE = ("device_type", "backend", "precision", "tensorrt", "compute_capability", "batches", "flags")


def _is_built(folder: Path, manifest: Manifest, info: SegmentInfo, mark: Dict[str, Any]) -> bool:
    for engine in manifest.engines:
        same = (engine.first, engine.stop, engine.segment_sha256) == (info.first, info.stop, info.sha256)
        if same and all(getattr(engine, key) == mark[key] for key in DECIDE):
            try:
                checked_file(folder, engine.file, engine.sha256)
            except EngineError:
                return False
            return True
    return False


def _job(folder: Path, info: SegmentInfo, wanted: Wanted, device: DeviceType, here: Here) -> Dict[str, Any]:
    smallest = [size for size in (device.memory_bytes[0], here.memory_bytes) if size]
    workspace = wanted.workspace_bytes or int(min(smallest, default=4 << 30) * WORKSPACE_SHARE)
    return {
        "first": info.first, "stop": info.stop, "precision": wanted.precision, "batches": wanted.batches,
        "workspace_bytes": workspace, "inputs": str(wanted.inputs or ""), "ranges": wanted.ranges,
        "target": device.compute_capability,
        "out": str(_unfinished(folder, info)),
        "timing_cache": str(folder / ".timing" / f"{device.name}-{wanted.backend}.cache"),
    }  # fmt: skip


def _build_one(
    folder: Path, manifest: Manifest, info: SegmentInfo, mark: Dict[str, Any], worker: "_Worker", job: Dict[str, Any],
    tell: Callable[[str], None],
) -> EngineInfo:  # fmt: skip
    done = worker.run(job, tell)
    name = f"{info.first:04d}-{info.stop:04d}.{mark['device_type']}.{mark['backend']}.{mark['precision']}.plan"
    unfinished = Path(job["out"])
    return EngineInfo(
        info.first, info.stop, file=name, sha256=sha256_of(unfinished), segment_sha256=info.sha256,
        built_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), max_abs_error=done["max_abs_error"],
        error_from=done["error_from"], kept=tuple(done["kept"]), inputs=manifest.boundaries[info.first],
        outputs=manifest.boundaries[info.stop], **mark,
    )  # fmt: skip


def _unfinished(folder: Path, info: SegmentInfo) -> Path:
    return folder / f"{UNFINISHED}{info.first:04d}-{info.stop:04d}.plan"


def _publish(store: Store, manifest: Manifest, engine: EngineInfo, unfinished: Path) -> Manifest:
    """Take the plan into the store, and the engine into the manifest in place of one for the same segment, device,
    back end and precision. Signatures go: they were for what the manifest said before."""

    def place(one: EngineInfo) -> Tuple[Any, ...]:
        return (one.first, one.stop, one.device_type, one.backend, one.precision)

    def change(before: Optional[Manifest]) -> Tuple[Manifest, Dict[str, str]]:
        now = before or manifest
        others = tuple(one for one in now.engines if place(one) != place(engine))
        return msgspec.structs.replace(now, engines=(*others, engine)), {engine.file: engine.sha256}

    with open(unfinished, "rb") as file:
        store.add(iter(lambda: file.read(1 << 20), b""))
    unfinished.unlink()
    return store.publish(change)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One build per folder at a time; what an earlier one left unfinished is removed. The lock goes with its holder."""
    with open(folder / LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise EngineError(f"{folder}: another build is running here: wait for it") from error
        _sweep(folder)
        try:
            yield
        finally:
            _sweep(folder)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{UNFINISHED}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink()


class _Pace:
    """Seconds left, by bytes: a segment twice as large is taken to last twice as long."""

    def __init__(self, sizes: List[int]) -> None:
        self._sizes, self._began = sizes, time.monotonic()

    def left_s(self, done: int) -> Optional[float]:
        before = sum(self._sizes[:done])
        return (time.monotonic() - self._began) * sum(self._sizes[done:]) / before if before else None


class _Worker:
    """The child process, and what to say when it dies."""

    def __init__(self, backend: str, folder: Path) -> None:
        command = [sys.executable, "-m", "pamdi.engines.build_worker", backend, str(folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
        )
        self.version = self.row = ""

    def __enter__(self) -> "_Worker":
        try:
            hello = self._next({"workspace_bytes": 0, "batches": BATCHES})
        except BaseException:
            self.__exit__()
            raise
        self.version, self.row = hello["version"], hello["row"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, job: Dict[str, Any], tell: Callable[[str], None]) -> Dict[str, Any]:
        """Have one segment built. Raises EngineError with the worker's reason, or with what to lower if it was
        killed."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # dead: _next says how
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        while True:
            event = self._next(job)
            if "done" in event:
                done: Dict[str, Any] = event["done"]
                return done
            tell(event["phase"])

    def _next(self, job: Dict[str, Any]) -> Dict[str, Any]:
        """The worker's next event; lines that are none, a library's chatter, are passed by."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                event: Dict[str, Any] = json.loads(line)
                if "error" in event:
                    raise EngineError(event["error"])
                return event
        raise EngineError(self._death(job))

    def _death(self, job: Dict[str, Any]) -> str:
        code = self._process.wait()
        where = f"segment {job['first']}:{job['stop']}" if "first" in job else "the builder"
        if code >= 0:
            return f"{where}: the builder ended with status {code}: see what it printed above"
        batches = ",".join(map(str, job["batches"]))
        return (
            f"{where}: the builder was killed by signal {-code}, most likely for memory: lower --workspace-mib (now "
            f"{job['workspace_bytes'] >> 20}) or --batches (now {batches}), or export shorter segments; what is built "
            "stays, run it again to go on"
        )
