"""The shape of a pretend world, and what its clients write down."""

from typing import Any, Dict, List, Optional, Tuple

from pamdi.core.allocation import SourceSpec
from pamdi.core.limits import Limits
from tests.core.weather import Weather


class Settings:
    """The shape of a world. ``unit_s``: seconds of each unit; ``nbytes``: of every boundary's tensor.
    ``batch_seconds``: of every unit, (batch, seconds); the largest is what engines were built for. ``shared``: all
    links are one radio, on which one tensor follows the other."""

    def __init__(
        self,
        devices: int = 3,
        units: int = 4,
        unit_s: float = 0.025,
        nbytes: int = 20_000,
        rate: float = 2.5e6,
        delay_s: float = 0.002,
        policy: str = "pa-mdi",
        residents: Optional[Dict[str, List[int]]] = None,
        limits: Optional[Limits] = None,
        sources: Optional[List[SourceSpec]] = None,
        mqtt_s: float = 0.001,
        weather: Optional[Weather] = None,
        batch_seconds: Tuple[Tuple[int, float], ...] = (),
        shared: bool = False,
    ) -> None:
        self.devices = [f"d{i}" for i in range(devices)]
        self.units, self.unit_s, self.nbytes, self.rate, self.delay_s = units, unit_s, nbytes, rate, delay_s
        self.policy = policy
        self.residents = residents or {device: list(range(units)) for device in self.devices}
        self.limits = limits or Limits()
        self.mqtt_s, self.shared = mqtt_s, shared
        self.batch_seconds = batch_seconds
        self.weather = weather or Weather()
        self.sources = sources or [
            SourceSpec("gate", "net", "d0", gamma=10.0),
            SourceSpec("yard", "net", "d1", gamma=1.0),
        ]


class Record:
    """What a client saw of one id."""

    def __init__(self, at: float, source: str) -> None:
        self.submitted_at = at
        self.source = source
        self.admitted = False
        self.ends: List[Tuple[str, str, Any]] = []
        self.ended_at: Optional[float] = None
