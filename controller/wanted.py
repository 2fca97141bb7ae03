"""What people asked for, as the controller's configuration says it, ready for planning."""

from typing import Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

import msgspec

from pamdi.controller.fleet import DeviceEntry, Fleet, LinkEntry, MeshEntry, ModelEntry, SourceEntry, Unit
from pamdi.controller.slowed import Terms as SpeedTerms
from pamdi.controller.solver.moving import Terms as MovingTerms
from pamdi.core.allocation import ModelSpec


class Wanted(NamedTuple):
    """``models`` cost, ``specs`` describe, ``digests[(model, unit)]`` is the sha256 of the segment's file.
    ``default_link``: (bytes per second, delay) of pairs that no [[link]] or [[mesh]] declares; None: no link.
    ``link_terms``: when a link counts as another than stated, as ``speed`` has it for devices.
    ``power_modes[(model, device type)]``: that the seconds were measured in, where it is known."""

    models: Dict[str, ModelEntry]
    specs: Dict[str, ModelSpec]
    digests: Dict[Unit, str]
    sources: Tuple[SourceEntry, ...]
    links: Tuple[LinkEntry, ...] = ()
    meshes: Tuple[MeshEntry, ...] = ()
    default_link: Optional[Tuple[float, float]] = (12_500_000.0, 0.001)
    policy: str = "pa-mdi"
    residents: str = "plan"
    settle_s: float = 0.5
    gone_after_s: float = 10.0
    load_s_max: float = 600.0
    retry_after_s: float = 60.0
    solver: str = "fast"
    speed: SpeedTerms = SpeedTerms()
    link_terms: SpeedTerms = SpeedTerms(slow_delay_s=150.0)
    moving: MovingTerms = MovingTerms()
    power_modes: Mapping[Tuple[str, str], str] = {}

    def fleet(self, devices: Sequence[DeviceEntry]) -> Fleet:
        """The problem to solve with these devices."""
        fleet = self.stated_fleet(devices)
        if self.default_link is None:
            return fleet
        return msgspec.structs.replace(fleet, mesh=[*fleet.mesh, MeshEntry("all", *self.default_link)])

    def stated_fleet(self, devices: Sequence[DeviceEntry]) -> Fleet:
        """With the links that somebody has written down, not the default."""
        return Fleet(
            list(devices), list(self.links), list(self.meshes), list(self.models.values()), list(self.sources)
        )  # fmt: skip

    def bytes_of(self) -> Dict[Unit, int]:
        return {(id, u): size for id, model in self.models.items() for u, size in enumerate(model.memory)}
