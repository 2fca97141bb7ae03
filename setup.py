"""Packaging. Metadata lives here, not in pyproject.toml: JetPack's setuptools does not read ``[project]``.

The parts (core/, daemon/, ...) are linked into src/pamdi/, so that they install as ``pamdi.core`` and so on, and
nothing with a generic name lands in site-packages. A device installs the plain package and one back end; what is heavy
is an extra.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = re.findall(r'__version__ = "(.+)"', (HERE / "src" / "pamdi" / "__init__.py").read_text(encoding="utf-8"))[0]

ONNXRUNTIME = ["onnxruntime>=1.16"]
TOOLS = ["onnx>=1.16", "rich>=13"]
BROKER = ["amqtt>=0.11; python_version >= '3.10'"]
SERVE = ["aiohttp>=3.8"]
SIGNATURES = ["cryptography>=3.1"]
DEMO = ONNXRUNTIME + TOOLS + BROKER
TEST = ONNXRUNTIME + SERVE + SIGNATURES + ["pytest>=8", "pytest-asyncio>=0.24", "hypothesis>=6.100"]

setup(
    name="pamdi",
    version=VERSION,
    description="Priority-aware model-distributed inference on a fleet of NVIDIA Jetson boards",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.8",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={
        "pamdi": ["py.typed"],
        "pamdi.calibration": ["tables/*"],
        "pamdi.demo": ["*.toml"],
        "pamdi.engines": ["models/*"],
    },
    zip_safe=False,
    install_requires=[
        "aiomqtt>=2.5,<3",
        "msgspec>=0.18",
        "numpy>=1.20",
        "paho-mqtt>=2,<3",
        "tomli>=2; python_version < '3.11'",
        "uvloop>=0.19",
    ],
    extras_require={
        "onnxruntime": ONNXRUNTIME,
        "tools": TOOLS + SERVE + SIGNATURES,
        "signatures": SIGNATURES,
        "broker": BROKER,
        "demo": DEMO,
        "test": TEST,
        "dev": DEMO + TEST + ["import-linter>=2", "mypy>=1.10", "ruff>=0.5"],
        "paper": ["matplotlib>=3.7"],
        "train": TOOLS + ["onnxscript", "scikit-learn", "torch"],
        "models": TOOLS + ["onnxscript", "torch", "transformers>=4.48"],
    },
    entry_points={"console_scripts": ["pamdi=pamdi.cli.main:main"]},
)
