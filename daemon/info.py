"""What a device says of itself, on its retained ``info`` topic: what it is, what it has, and where it listens."""

from pathlib import Path
from typing import Callable, Dict

from pamdi import __version__
from pamdi.core.allocation import DeviceInfo
from pamdi.core.errors import EngineError
from pamdi.daemon.config import DaemonConfig
from pamdi.daemon.host import address_towards, describe_host
from pamdi.engines.backend import Backend
from pamdi.engines.manifest import read_manifest


def device_info(
    config: DaemonConfig, instance: int, port: int, backend: Backend, log: Callable[[str], None]
) -> DeviceInfo:
    """``log`` is told, in one line each, of a store that is not there and of its folders that cannot be read."""
    host = describe_host()
    return DeviceInfo(
        config.id,
        config.type,
        config.memory_bytes or (host.memory_bytes or 0) // 2,
        instance,
        _advertised(config),
        port,
        config.backend.name,
        {"pamdi": __version__, "python": host.python, **backend.describe()},
        # With a store to pull from, what lies here limits nothing: the controller tries a device that names no files.
        {} if config.store_url else _digests(Path(config.store), log),
        config.data_plane,
    )


def _digests(store: Path, log: Callable[[str], None]) -> Dict[str, Dict[str, str]]:
    models: Dict[str, Dict[str, str]] = {}
    if not store.is_dir():
        log(f"store {store} is no folder: nothing can be loaded; copy the controller's exports there or set store_url")
    for folder in sorted(store.glob("*/model.json")):
        try:
            manifest = read_manifest(folder.parent)
            models[manifest.model] = {f"{s.first}:{s.stop}": s.sha256 for s in manifest.segments}
        except EngineError as error:
            log(str(error))
    return models


def _advertised(config: DaemonConfig) -> str:
    if config.listen.advertise:
        return config.listen.advertise
    if config.listen.host not in ("0.0.0.0", "::"):
        return config.listen.host
    return address_towards(*config.broker.address()[:2])
