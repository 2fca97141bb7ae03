"""Does an engine fit this device? Asked before it is loaded, and answered with both sides and what mends it.

TensorRT itself says "version tag does not match", which tells nobody what to do.
"""

from typing import Iterator, NamedTuple, Tuple

from pamdi.engines.manifest import EngineInfo


class Device(NamedTuple):
    """The device that would run it. Empty: unavailable, and then not compared."""

    device_type: str
    compute_capability: str
    tensorrt: str
    cuda: str = ""
    l4t: str = ""


def fits(engine: EngineInfo, device: Device, segment_sha256: str = "", folder: str = "DIR") -> str:
    """One line that says why the engine does not fit, or nothing. ``segment_sha256``: of the segment as it is now."""
    for what, built, have in _pairs(engine, device):
        if built and have and built != have:
            return (
                f"engine {engine.file}: built for {what} {built}, this device has {have}: on this device run `pamdi "
                f"engines build {folder} --device {device.device_type or engine.device_type}`"
            )
    if segment_sha256 and engine.segment_sha256 and engine.segment_sha256 != segment_sha256:
        return (
            f"engine {engine.file}: built from segment {engine.segment_sha256[:12]}, the folder holds "
            f"{segment_sha256[:12]}: run `pamdi engines build {folder} --device {engine.device_type}` again"
        )
    return ""


def _pairs(engine: EngineInfo, device: Device) -> Iterator[Tuple[str, str, str]]:
    """(what, built for, have). CUDA and L4T break an engine by their major version only."""
    yield "device type", engine.device_type, device.device_type
    yield "compute capability", engine.compute_capability, device.compute_capability
    yield "TensorRT", engine.tensorrt, device.tensorrt
    yield "CUDA", _major(engine.cuda), _major(device.cuda)
    yield "L4T", _major(engine.l4t), _major(device.l4t)


def _major(version: str) -> str:
    return version.partition(".")[0]
