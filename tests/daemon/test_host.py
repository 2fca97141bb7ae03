"""What a host says of itself, read from pretended machines."""

import os
import platform
from pathlib import Path
from typing import Dict

import pytest

from pamdi.daemon.host import Host, describe_host

ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "proc/meminfo": "MemTotal:        7802104 kB\nMemFree:          511392 kB\nMemAvailable:    5242880 kB\n",
    "var/lib/nvpmodel/status": "pmode:0002\n",
    "etc/nvpmodel.conf": "# modes\n< POWER_MODEL ID=0 NAME=15W >\nCPU 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48250\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon1/in1_input": "5000\n",
    "sys/class/hwmon/hwmon1/curr1_input": "1200\n",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV\n",
    "var/lib/dpkg/status": """Package: nvidia-jetpack
Status: install ok installed
Version: 6.2+b77

Package: libnvinfer10
Status: install ok installed
Version: 10.3.0.30-1+cuda12.5

Package: libnvinfer8
Status: deinstall ok config-files
Version: 8.5.2-1+cuda11.4

Package: cuda-cudart-12-6
Status: install ok installed
Version: 12.6.68-1
""",
}


def _machine(root: Path, files: Dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_jetson_tells_what_it_is_in_full(tmp_path: Path) -> None:
    assert describe_host(_machine(tmp_path, ORIN)) == Host(
        model="NVIDIA Jetson Orin Nano Developer Kit",
        l4t="36.4.3",
        jetpack="6.2",
        cuda="12.6.68",
        tensorrt="10.3.0.30",
        python=platform.python_version(),
        machine=platform.machine(),
        memory_bytes=7802104 * 1024,
        memory_available_bytes=5242880 * 1024,
        power_mode="2 MAXN_SUPER",
        temperatures_c={"cpu-thermal": 48.25},  # the GPU is switched off: unavailable, not -256
        power_w={"VDD_IN": 6.0},  # the other rail cannot be read
    )


def test_a_machine_that_tells_nothing_is_unavailable_never_zero(tmp_path: Path) -> None:
    assert describe_host(tmp_path) == Host(
        model=None, l4t=None, jetpack=None, cuda=None, tensorrt=None,
        python=platform.python_version(), machine=platform.machine(),
        memory_bytes=None, memory_available_bytes=None, power_mode=None, temperatures_c={}, power_w={},
    )  # fmt: skip


@pytest.mark.parametrize("damage", ["", "\0\0", "{", "pmode:", "[]", "\udcff"])
def test_files_that_make_no_sense_are_unavailable(tmp_path: Path, damage: str) -> None:
    names = [*ORIN, "usr/local/cuda/version.json"]
    host = describe_host(_machine(tmp_path, {name: damage.encode("utf-8", "replace").decode() for name in names}))
    assert (host.l4t, host.jetpack, host.cuda, host.memory_bytes, host.power_mode) == (None,) * 5
    assert (host.temperatures_c, host.power_w) == ({}, {})


def test_cuda_is_found_without_its_packages(tmp_path: Path) -> None:
    version = '{"cuda": {"name": "CUDA SDK", "version": "11.4.19"}}'
    assert describe_host(_machine(tmp_path, {"usr/local/cuda/version.json": version})).cuda == "11.4.19"


def test_a_package_installed_later_is_seen(tmp_path: Path) -> None:
    root = _machine(tmp_path, ORIN)
    assert describe_host(root).jetpack == "6.2"
    status = root / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("6.2+b77", "6.2.1+b38"))
    os.utime(status, ns=(1, 1))
    assert describe_host(root).jetpack == "6.2.1"


def test_this_machine_has_memory() -> None:
    host = describe_host()
    assert host.memory_bytes is not None
    assert host.memory_available_bytes is not None
    assert 0 < host.memory_available_bytes <= host.memory_bytes
