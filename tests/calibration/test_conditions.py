"""What a board says of itself, read from files; "unavailable" where there are none."""

from pathlib import Path

from pamdi.calibration.conditions import clocks, machine, temperature_c


def files(root: Path, contents: "dict[str, str]") -> Path:
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_board_is_told_by_its_device_tree_with_its_clocks_and_its_hottest_sensor(tmp_path: Path) -> None:
    root = files(tmp_path, {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "1510400\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1510400\n",
        "sys/class/devfreq/17000000.ga10b/min_freq": "306000000\n",
        "sys/class/devfreq/17000000.ga10b/max_freq": "624750000\n",
        "sys/class/devfreq/memory/min_freq": "1\n",
        "sys/class/thermal/thermal_zone0/temp": "48250\n",
        "sys/class/thermal/thermal_zone1/temp": "-256000\n",
        "sys/class/thermal/thermal_zone2/temp": "51500\n",
    })  # fmt: skip
    assert machine(root) == "NVIDIA Jetson Orin Nano Developer Kit"
    assert clocks(root) == "cpu 1510..1510 MHz, gpu 306..625 MHz"
    assert temperature_c(root) == 51.5


def test_a_machine_without_one_is_told_by_its_processor(tmp_path: Path) -> None:
    text = "vendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Processor\nflags\t: fpu\n"
    root = files(tmp_path, {"proc/cpuinfo": text})
    assert (machine(root), clocks(root), temperature_c(root)) == (
        "Intel(R) Xeon(R) Processor", "unavailable", "unavailable",
    )  # fmt: skip


def test_what_cannot_be_read_is_unavailable(tmp_path: Path) -> None:
    assert (machine(tmp_path), clocks(tmp_path), temperature_c(tmp_path)) == ("unavailable",) * 3
