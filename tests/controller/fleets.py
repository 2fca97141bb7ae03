"""Small fleets for tests: devices ``d0``.., a model ``net`` of equal units, sources ``gate`` (urgent) and ``yard``."""

from typing import Any, Dict, List, Optional, Sequence

from pamdi.controller.fleet import DeviceEntry, Fleet, LinkEntry, MeshEntry, ModelEntry, SourceEntry
from pamdi.controller.wanted import Wanted
from pamdi.core.allocation import ModelSpec

UNIT_BYTES = 100


def net(units: int = 4, id: str = "net", unit_bytes: int = UNIT_BYTES, unit_s: float = 0.01) -> ModelEntry:
    return ModelEntry(
        id, [f"u{u}" for u in range(units)], [1000] * (units + 1), [unit_bytes] * units, {"board": [unit_s] * units}
    )


def gate(device: str = "d0", **more: float) -> SourceEntry:
    return SourceEntry("gate", "net", device, gamma=10.0, **more)  # type: ignore[arg-type]


def yard(device: str = "d1", model: str = "net", **more: float) -> SourceEntry:
    return SourceEntry("yard", model, device, **more)  # type: ignore[arg-type]


def fleet(
    memory: Sequence[int],
    sources: Optional[List[SourceEntry]] = None,
    models: Optional[List[ModelEntry]] = None,
    links: Optional[List[LinkEntry]] = None,
    mesh: bool = True,
) -> Fleet:
    """Devices with these many bytes, on a mesh of 1 MB/s and no delay unless ``mesh`` is False."""
    return Fleet(
        [DeviceEntry(f"d{i}", "board", size) for i, size in enumerate(memory)],
        links or [],
        [MeshEntry("all", 1e6)] if mesh else [],
        models or [net()],
        sources if sources is not None else [gate(), yard()],
    )


def wanted(
    sources: Optional[List[SourceEntry]] = None, models: Optional[List[ModelEntry]] = None, **more: Any
) -> Wanted:
    listed = models or [net()]
    specs: Dict[str, ModelSpec] = {model.id: ModelSpec(model.id, tuple(model.bytes)) for model in listed}
    base = Wanted(
        models={model.id: model for model in listed},
        specs=specs,
        digests={},
        sources=tuple(sources if sources is not None else [gate(), yard()]),
        settle_s=0.5,
    )
    return base._replace(**more)
