"""daemon.toml: everything a device is told by a file. ``examples/daemon.toml`` shows every key with its unit."""

from pathlib import Path
from typing import List, Optional

import msgspec

from pamdi.client.broker_config import BrokerConfig
from pamdi.client.toml_file import read_toml
from pamdi.core.errors import ConfigError
from pamdi.core.limits import Limits
from pamdi.core.topics import valid_id
from pamdi.daemon.probe import ProbeConfig, check_probe_config
from pamdi.engines.seal import is_key

DATA_PLANES = ("link", "mqtt")


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where peers connect. ``advertise``: the address they are told (default: the one that reaches the broker)."""

    host: str = "0.0.0.0"
    port: int = 0
    advertise: Optional[str] = None


class BackendConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = "onnxruntime"
    threads: int = 1
    optimisation: str = "all"
    device: str = "auto"  # of onnxruntime: cpu, cuda, or auto


class Emulation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pretend to be a slower board on a slower network. ``compute``: pad each run to the allocation's seconds times
    ``speed``."""

    compute: bool = False
    speed: float = 1.0
    link_rate_bytes_per_s: Optional[float] = None
    link_delay_s: float = 0.0


class DaemonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    type: str
    store: str
    store_url: str = ""  # a served store, pulled from by digest; "": what lies in `store` is all there is
    store_ca_file: Optional[str] = None
    store_bytes_max: int = 16 * 2**30
    trusted_keys: List[str] = []
    memory_bytes: int = 0  # for engines; 0: half of the machine's memory
    runtime_dir: str = "/run/pamdi"
    state_dir: str = "/var/lib/pamdi"
    drain_s: float = 20.0
    data_plane: str = "link"  # "mqtt": tensors travel over the broker, for networks where devices cannot dial others
    stats_every_s: float = 60.0
    record: Optional[str] = None  # a file for every event and instruction, for `pamdi.simulator.replay`
    broker: BrokerConfig = BrokerConfig()
    listen: Listen = Listen()
    backend: BackendConfig = BackendConfig()
    emulation: Emulation = Emulation()
    probe: ProbeConfig = ProbeConfig()
    limits: Limits = Limits()


def read_config(path: Path) -> DaemonConfig:
    """Raises ConfigError in one line."""
    config = read_toml(path, DaemonConfig)
    if not valid_id(config.id):
        raise ConfigError(f"{path}: id {config.id!r}: use letters, digits, _ . -, at most 64")
    if config.data_plane not in DATA_PLANES:
        raise ConfigError(f"{path}: data_plane = {config.data_plane!r}: one of {', '.join(DATA_PLANES)}")
    if check_probe_config(config.probe):
        raise ConfigError(f"{path}: [probe]: {check_probe_config(config.probe)}")
    if config.store_url and not config.store_url.startswith(("http://", "https://")):
        raise ConfigError(f"{path}: store_url = {config.store_url!r}: write http://HOST:PORT or https://HOST:PORT")
    for key in config.trusted_keys:
        if not is_key(key):
            raise ConfigError(f"{path}: trusted_keys holds {key!r}: write what `pamdi engines sign` prints")
    config.broker.address()
    return config
