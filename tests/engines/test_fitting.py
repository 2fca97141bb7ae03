"""An engine that does not fit is refused with both sides and the command that mends it."""

from typing import Dict

import msgspec
import pytest

from pamdi.engines.fitting import Device, fits
from pamdi.engines.manifest import EngineInfo

ENGINE = EngineInfo(
    0, 1, "orin-nano", "tensorrt", "fp16", "0000-0001.plan", "00", tensorrt="10.3.0", compute_capability="8.7",
    cuda="12.6", l4t="36.4.3", segment_sha256="ab" * 32,
)  # fmt: skip
DEVICE = Device("orin-nano", "8.7", "10.3.0", "12.6", "36.4.3")


def test_an_engine_fits_the_device_it_was_built_on_and_its_siblings_after_a_minor_update() -> None:
    assert fits(ENGINE, DEVICE, "ab" * 32) == ""
    assert fits(ENGINE, DEVICE._replace(cuda="12.9", l4t="36.5")) == ""
    assert fits(ENGINE, DEVICE._replace(cuda="", l4t="")) == ""  # unavailable is not compared


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"device_type": "thor"}, "built for device type thor, this device has orin-nano"),
        ({"compute_capability": "7.2"}, "built for compute capability 7.2, this device has 8.7"),
        ({"tensorrt": "8.5.2"}, "built for TensorRT 8.5.2, this device has 10.3.0"),
        ({"cuda": "11.4"}, "built for CUDA 11, this device has 12"),
        ({"l4t": "35.3.1"}, "built for L4T 35, this device has 36"),
    ],
)
def test_a_mismatch_names_both_sides_and_the_cure(changes: Dict[str, str], says: str) -> None:
    line = fits(msgspec.structs.replace(ENGINE, **changes), DEVICE, folder="store/m")
    assert says in line and line.endswith("run `pamdi engines build store/m --device orin-nano`")


def test_an_engine_of_a_segment_that_has_changed_is_refused() -> None:
    assert "built from segment abababababab, the folder holds cdcdcdcdcdcd" in fits(ENGINE, DEVICE, "cd" * 32)
