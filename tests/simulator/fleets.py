"""Small scenarios for the plays: devices d0.. of one type, a full mesh, one model of equal units."""

from typing import Any, List, Optional, Sequence

from pamdi.controller.fleet import DeviceEntry, LinkEntry, MeshEntry, ModelEntry, SourceEntry
from pamdi.simulator.scenario import ArrivalsEntry, FaultEntry, RunEntry, Scenario

UNIT_S = 0.025


def fleet(
    devices: int = 3,
    units: int = 4,
    sources: Optional[Sequence[SourceEntry]] = None,
    arrivals: Optional[Sequence[ArrivalsEntry]] = None,
    faults: Sequence[FaultEntry] = (),
    links: Optional[List[LinkEntry]] = None,
    nbytes: int = 20_000,
    medium: Optional[str] = None,
    **run: Any,
) -> Scenario:
    """``links`` replaces the mesh. Without ``arrivals``: ten works of every source, at its rate."""
    present = list(sources) if sources is not None else [SourceEntry("gate", "net", "d0", gamma=10.0, rate_hz=5.0)]
    return Scenario(
        device=[DeviceEntry(f"d{i}", "board", 10**9) for i in range(devices)],
        link=links or [],
        mesh=[] if links is not None else [MeshEntry("all", 2.5e6, 0.002, medium=medium)],
        model=[
            ModelEntry(
                "net",
                [f"u{i}" for i in range(units)],
                [*[nbytes] * units, 40],
                [1000] * units,
                {"board": [UNIT_S] * units},
            )  # fmt: skip
        ],
        source=present,
        run=RunEntry(**run),
        arrivals=list(arrivals) if arrivals is not None else [ArrivalsEntry(s.id, count=10) for s in present],
        fault=list(faults),
    )


GATE = SourceEntry("gate", "net", "d0", gamma=10.0, rate_hz=5.0)
YARD = SourceEntry("yard", "net", "d1", gamma=1.0, rate_hz=5.0)
