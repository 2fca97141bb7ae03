"""An ONNX file per candidate segment, and the manifest beside them.

A weight that two segments use (the embedding that GPT-2 uses at both ends; in every contiguous run, nearly all) is an
object of the store that both refer to, and takes its place once. What only one segment uses lies in its file, so that
a plain export is plain files; a segment that would not fit into one file (protobuf ends at 2 GiB) has all its weights
outside. Weights are copied from disk to disk: the memory needed is that of the largest file written, or a block.
"""

import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from pamdi.core.errors import EngineError
from pamdi.core.topics import valid_id
from pamdi.engines.cuts import CutModel, Unit, cut_file
from pamdi.engines.manifest import OBJECTS, EngineInfo, Manifest, SegmentInfo, UnitInfo, WeightInfo
from pamdi.engines.named_models import OURS, model_path
from pamdi.engines.onnx_file import OnnxFile, Slice, fill, model_digest, refer
from pamdi.engines.store import Store

__all__ = ["OURS", "export", "model_path"]

INLINE_BYTES_MAX = 2**31 - 2**26  # of weights in one file; the graph takes the rest
PROBE_BYTES = 1 << 23
Pairs = List[Tuple[int, int]]


class Estimate(NamedTuple):
    """What an export will take, before it starts. ``shared_bytes`` is part of ``total_bytes``."""

    segments: int
    total_bytes: int
    shared_bytes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.segments} segments, about {self.total_bytes} bytes ({self.shared_bytes} of shared weights, once) "
            f"in about {self.seconds:.0f} s"
        )


def export(
    path: Path,
    out: Path,
    name: str,
    units: Optional[int] = None,
    segments: Optional[Sequence[Tuple[int, int]]] = None,
    progress: Callable[[str], None] = lambda line: None,
    bytes_max: Optional[int] = None,
    inline_bytes_max: int = INLINE_BYTES_MAX,
) -> Manifest:
    """Cut the model at ``path`` into ``units`` (default: at every cut point) and write ``segments`` (default: one per
    unit) into the folder ``out``, a store of at most ``bytes_max``. Returns the manifest that was written. Raises
    EngineError in one line."""
    if not valid_id(name):
        raise EngineError(f"model {name!r}: use letters, digits, _ . -, at most 64: another --out or --name")
    model, file = cut_file(path, units)
    count = len(model.units)
    pairs = list(segments) if segments is not None else [(u, u + 1) for u in range(count)]
    _check_pairs(pairs, count)
    writer = _Writer(model, file, Store(out, bytes_max), _shared(model, file, pairs, inline_bytes_max))
    try:
        with writer.store.adding():
            infos = _write_all(writer, pairs, progress)
            manifest = Manifest(
                name, model_digest(path), model.boundaries[0], tuple(map(_unit_info, model.units)), tuple(infos), (),
                model.boundaries, tuple(writer.weights),
            )  # fmt: skip
            names = {info.onnx: info.sha256 for info in infos}
            return writer.store.publish(lambda before: (_with_engines_of(before, manifest), names))
    finally:
        writer.store.sweep()


def _write_all(writer: "_Writer", pairs: Pairs, progress: Callable[[str], None]) -> List[SegmentInfo]:
    estimate = writer.estimate(pairs)
    progress(str(estimate))
    writer.store.check_room(0, estimate.total_bytes)
    infos = []
    for first, stop in pairs:
        infos.append(writer.write(first, stop))
        progress(f"{infos[-1].onnx}: units {first} to {stop - 1}, {infos[-1].bytes} bytes")
    return infos


class _Writer:
    """Writes segments into a store. ``shared``: names of the weights that become objects of their own."""

    def __init__(self, model: CutModel, file: OnnxFile, store: Store, shared: Set[str]) -> None:
        import onnx.utils

        self.model, self.store, self.weights = model, store, []  # type: CutModel, Store, List[WeightInfo]
        self._slices, self._shared = file.weights, shared
        self._numbers: Dict[str, int] = {}
        self._extractor = onnx.utils.Extractor(file.proto)

    def write(self, first: int, stop: int) -> SegmentInfo:
        """The segment's file, as an object of the store, with the shared weights that it reads."""
        proto = self.extract(first, stop)
        numbers = []
        for tensor in proto.graph.initializer:
            piece = self._slices.get(tensor.name)
            if piece is not None and tensor.name in self._shared:
                numbers.append(self._number(tensor.name, piece))
                sha256 = self.weights[numbers[-1]].sha256
                refer(tensor, f"{OBJECTS}/{sha256}", 0, piece.size)
            elif piece is not None:
                fill(tensor, piece.bytes())
        data = proto.SerializeToString(deterministic=True)
        sha256, size = self.store.add([data])
        inputs, outputs = (tuple(t.name for t in self.model.boundaries[u]) for u in (first, stop))
        onnx_name = f"{first:04d}-{stop:04d}.onnx"
        return SegmentInfo(first, stop, onnx_name, sha256, inputs, outputs, tuple(sorted(set(numbers))), size)

    def extract(self, first: int, stop: int) -> Any:
        """The segment's graph, its weights still slices of the model's file. What goes around it is not in it."""
        units = self.model.units[first:stop]
        nodes = self.model.proto.graph.node
        read = {name for unit in units for i in unit.nodes for name in nodes[i].input}
        leaving = [tensor.name for tensor in self.model.boundaries[stop]]
        entering = [tensor.name for tensor in self.model.boundaries[first]]
        taken = [name for name in entering if name in read]
        made = [name for name in leaving if name not in entering]
        try:
            return self._extractor.extract_model(taken, made)
        except Exception as error:  # sparse weights, quantisation annotations: each its own type
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EngineError(
                f"segment {first}:{stop} cannot be extracted ({line}): export the model without"
            ) from error

    def estimate(self, pairs: Pairs) -> Estimate:
        """Sizes are exact but for the graphs; the time is what one graph and a few MiB take here, now.
        Both are objects that nobody names: they are swept."""
        began = time.monotonic()
        median = sorted(pairs, key=lambda pair: pair[1] - pair[0])[len(pairs) // 2]
        graph_bytes = self.store.add([self.extract(*median).SerializeToString()])[1]
        extracting_s = time.monotonic() - began
        used = [_constants(self.model, pair) for pair in pairs]
        shared = sum(self._slices[name].size for name in set().union(*used) & self._shared)
        inline = sum(self._slices[name].size for names in used for name in (names & set(self._slices)) - self._shared)
        total = shared + inline + graph_bytes * len(pairs)
        bytes_per_s = self._write_rate(min(PROBE_BYTES, total))
        return Estimate(len(pairs), total, shared, extracting_s * len(pairs) + total / bytes_per_s)

    def _write_rate(self, size: int) -> float:
        """Bytes per second that the store takes, reading from the model's file included."""
        piece = next(iter(self._slices.values()), None)
        began = time.monotonic()
        self.store.add(_at_most(piece, size) if piece is not None else [bytes(size)])
        return max(size, 1) / (time.monotonic() - began)

    def _number(self, name: str, piece: Slice) -> int:
        if name not in self._numbers:
            sha256, size = self.store.add(piece.blocks())
            weight = WeightInfo(sha256, size)
            if weight not in self.weights:
                self.weights.append(weight)
            self._numbers[name] = self.weights.index(weight)
        return self._numbers[name]


def _at_most(piece: Slice, size: int) -> Iterator[bytes]:
    yield from piece._replace(size=min(piece.size, size)).blocks()


def _constants(model: CutModel, pair: Tuple[int, int]) -> Set[str]:
    return {name for unit in model.units[slice(*pair)] for name in unit.constants}


def _shared(model: CutModel, file: OnnxFile, pairs: Pairs, inline_bytes_max: int) -> Set[str]:
    """Names of the weights that two segments use, or that a segment cannot hold in its file."""
    used = [_constants(model, pair) & set(file.weights) for pair in pairs]
    counts = Counter(name for names in used for name in names)
    shared = {name for name, count in counts.items() if count > 1}
    for names in used:
        if sum(file.weights[name].size for name in names - shared) > inline_bytes_max:
            shared |= names
    return shared


def _with_engines_of(before: Optional[Manifest], manifest: Manifest) -> Manifest:
    """The new manifest, with those engines of the old one whose segments are still the same bytes."""
    import msgspec

    if before is None:
        return manifest
    old = {(info.first, info.stop): info.sha256 for info in before.segments}
    new = {(info.first, info.stop): info.sha256 for info in manifest.segments}

    def still(engine: EngineInfo) -> bool:
        pair = (engine.first, engine.stop)
        return pair in new and old.get(pair) == new[pair]

    return msgspec.structs.replace(manifest, engines=tuple(filter(still, before.engines)))


def _check_pairs(pairs: Pairs, count: int) -> None:
    if not pairs or len(set(pairs)) != len(pairs):
        raise EngineError(f"segments {pairs}: name at least one, and none twice")
    for first, stop in pairs:
        if not 0 <= first < stop <= count:
            raise EngineError(f"segment {first}:{stop} is not within 0:{count}")
    useless = [pair for pair in pairs if pair not in _in_chains(pairs, count)]
    if useless:
        said, lost = (",".join(f"{first}:{stop}" for first, stop in some) for some in (pairs, useless))
        raise EngineError(
            f"segments {said}: no way from unit 0 to {count} goes through {lost}: let each begin where another ends"
        )


def _in_chains(pairs: Pairs, count: int) -> Set[Tuple[int, int]]:
    """Those that some chain of them, from unit 0 to ``count``, goes through."""
    reached, leading = {0}, {count}
    for first, stop in sorted(pairs):
        if first in reached:
            reached.add(stop)
    for first, stop in sorted(pairs, reverse=True):
        if stop in leading:
            leading.add(first)
    return {(first, stop) for first, stop in pairs if first in reached and stop in leading}


def _unit_info(unit: Unit) -> UnitInfo:
    return UnitInfo(unit.name, unit.bytes_in, unit.memory_bytes, unit.flops, len(unit.nodes))
