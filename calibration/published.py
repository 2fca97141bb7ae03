"""Figures that others measured on boards that nobody here has; none was measured here.

A figure is the time of one forward pass of one model at batch 1. Whatever else a table says was made of it by
``derive.py``, and says so.
"""

from typing import Dict, NamedTuple


class Figure(NamedTuple):
    """``seconds``: as published, of ``model`` at batch 1. ``units`` says which of our models that is."""

    model: str
    seconds: float
    precision: str
    backend: str
    power_mode: str
    source: str
    said: str


TORCH2TRT = "https://github.com/NVIDIA-AI-IOT/torch2trt"
NANO = Figure(
    "resnet50", 29.8e-3, "fp16", "tensorrt (version not published)", "unavailable",
    f"{TORCH2TRT}/blob/master/docs/benchmarks/jetson_nano.md",
    "ResNet-50, float16, 1x3x224x224 on Jetson Nano: latency 29.8 ms, throughput 34.2 frames/s",
)  # fmt: skip
XAVIER = Figure(
    "resnet50", 3.37e-3, "fp16", "tensorrt (version not published)", "unavailable",
    f"{TORCH2TRT}/blob/master/docs/benchmarks/jetson_xavier.md",
    "ResNet-50, float16, 1x3x224x224 on Jetson Xavier: latency 3.37 ms, throughput 326 frames/s (312 in the README)",
)  # fmt: skip

FIGURES: Dict[str, Figure] = {"jetson-nano": NANO, "agx-xavier": XAVIER}
