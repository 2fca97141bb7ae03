"""The paper's settings as scenarios: devices, links, models in seconds, sources.

What is known of them is second hand (marked [S]; [I] is inferred); everything else is assumed here, and each
assumption is a line in ``assumed.py``, which the report prints. Seconds are operations / (operations per second of the
device): the sustained figure of a device is its peak in FP32 times ``EFFICIENCY``. None was measured on those boards;
the sensitivity rows say how little hinges on it.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import msgspec

from benchmarks.paper.shapes import Shape
from pamdi.controller.fleet import DeviceEntry, LinkEntry, MeshEntry, ModelEntry, SourceEntry
from pamdi.core.limits import Limits
from pamdi.simulator.scenario import ArrivalsEntry, RunEntry, Scenario

# Peak FP32 operations per second of the CPU: cores x clock x (lanes x 2 for a fused multiply-add x pipes).
PEAK: Dict[str, float] = {
    "xavier": 6 * 1.9e9 * 16,  # [S] 6 Carmel cores at 1.9 GHz; two 128-bit pipes each
    "nano": 4 * 1.43e9 * 8,  # [S] 4 Cortex-A57 at 1.43 GHz; 8 operations per cycle
    "server": 24 * 2.3e9 * 16,  # [I] a two-socket server of 2014 that runs a share of its cores for this
}
EFFICIENCY = 0.1  # [I] of the peak that a convolution or a matrix product of this size reaches in a CPU back end
# Published: ResNet-50 (8.18e9 operations), FP16, batch 1, TensorRT, frames per second (torch2trt's README).
GPU: Dict[str, float] = {"xavier": 312 * 8.18e9, "nano": 34.2 * 8.18e9, "server": 2e12}

WIFI_BYTES_PER_S = 2_500_000  # [S] about 20 Mb/s
WIRED_BYTES_PER_S = 1_250_000_000  # [S] 10 Gb/s
GAMMA = 10.0  # [I] of the urgent source; the others have 1. Only the order matters to the rule.
# A tensor of 3 MB takes more than a second on that radio, and several may wait for it: what a device gives up on must
# come later than that. For every policy alike.
PATIENT = Limits(reservation_s=30.0, resend_s=60.0, ask_s=5.0)


LOADS = (0.3, 0.5, 0.7, 0.9, 1.0, 1.1, 1.2)


class Setting(NamedTuple):
    """``published``: the paper's largest cut against AR-MDI and MS-MDI in per cent; None where it has none.
    ``fleet``: everything but loads and policies; the first source is the urgent one. ``loads``: at which it is run,
    besides saturation."""

    name: str
    title: str
    published: Optional[Tuple[float, float]]
    fleet: Scenario
    loads: Tuple[float, ...] = LOADS

    def taking_turns(self) -> "Setting":
        """The same on a radio that knows no priority between stations."""
        run = msgspec.structs.replace(self.fleet.run, stations="turns")
        fleet = msgspec.structs.replace(self.fleet, run=run)
        return self._replace(name=f"{self.name}, turns", title=f"{self.title}, stations take turns", fleet=fleet)


def model_entry(shape: Shape, speeds: Dict[str, float]) -> ModelEntry:
    """``speeds``: operations per second by device type."""
    return ModelEntry(
        shape.name,
        [block.name for block in shape.blocks],
        [*[block.entering for block in shape.blocks], shape.output],
        [block.memory for block in shape.blocks],
        {type: [block.operations / speed for block in shape.blocks] for type, speed in sorted(speeds.items())},
    )


def cpu_speeds(efficiency: float = EFFICIENCY) -> Dict[str, float]:
    return {type: peak * efficiency for type, peak in PEAK.items()}


def xavier_mesh(shapes: Sequence[Shape], speeds: Dict[str, float]) -> Setting:
    """Five Xavier, one shared radio channel. One source per shape given, on a, d, b, ...: the first is urgent."""
    devices = [DeviceEntry(id, "xavier", 16 * 10**9) for id in "abcde"]
    mesh = [MeshEntry("all", WIFI_BYTES_PER_S, 0.002, medium="wifi")]
    fleet = _scenario(devices, mesh, [], shapes, ["a", "d", "b", "e", "c"], speeds)
    return Setting("xavier-mesh", "5 Xavier, 20 Mb/s WiFi", (75.3, 73.2), fleet)


def xavier_nano_multihop(shapes: Sequence[Shape], speeds: Dict[str, float]) -> Setting:
    """Three Xavier in reach of each other, a Nano behind each: two Nanos talk over two Xaviers. The links of one
    radio channel share it."""
    devices = [DeviceEntry(f"x{i}", "xavier", 16 * 10**9) for i in range(3)]
    devices += [DeviceEntry(f"n{i}", "nano", 4 * 10**9) for i in range(3)]
    pairs = [("x0", "x1"), ("x1", "x2"), ("x0", "x2"), ("x0", "n0"), ("x1", "n1"), ("x2", "n2")]
    links = [LinkEntry(a, b, WIFI_BYTES_PER_S, 0.002, medium="wifi") for a, b in pairs]
    fleet = _scenario(devices, [], links, shapes, ["x0", "n1", "x2", "n0"], speeds)
    return Setting("xavier-nano-multihop", "3 Xavier + 3 Nano, multi-hop", (71.4, 61.0), fleet)


def colosseum(shapes: Sequence[Shape], speeds: Dict[str, float]) -> Setting:
    devices = [DeviceEntry(id, "server", 64 * 10**9) for id in "abcde"]
    mesh = [MeshEntry("all", WIRED_BYTES_PER_S, 0.0005)]
    fleet = _scenario(devices, mesh, [], shapes, ["a", "d", "b", "e", "c"], speeds)
    return Setting("colosseum", "5 servers, 10 Gb/s", (56.4, 34.8), fleet)


def _scenario(
    devices: List[DeviceEntry],
    mesh: List[MeshEntry],
    links: List[LinkEntry],
    shapes: Sequence[Shape],
    heads: Sequence[str],
    speeds: Dict[str, float],
) -> Scenario:
    types = {device.type for device in devices}
    models = {shape.name: shape for shape in shapes}
    here = {type: speed for type, speed in speeds.items() if type in types}
    sources = [
        SourceEntry(
            "urgent" if i == 0 else f"other{i}",
            shape.name,
            head,
            gamma=GAMMA if i == 0 else 1.0,
            queue_works_max=100_000,
            replay_after_s=1e6,
        )  # fmt: skip
        for i, (shape, head) in enumerate(zip(shapes, heads))
    ]
    return Scenario(
        device=devices,
        mesh=mesh,
        link=links,
        model=[model_entry(shape, here) for shape in models.values()],
        source=sources,
        run=RunEntry(policies=["pa-mdi"], submit_s=0.001, result_s=0.001, limits=PATIENT),
        arrivals=[ArrivalsEntry(source.id, count=100) for source in sources],
    )
