"""Packaging. Metadata lives here, not in pyproject.toml: JetPack's setuptools does not read ``[project]``."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "src" / "pamdi" / "__init__.py").read_text()).group(1)

ONNXRUNTIME = ["onnxruntime>=1.16"]
TOOLS = ["onnx>=1.16", "rich>=13"]
BROKER = ["amqtt>=0.11; python_version >= '3.10'"]
DEMO = ONNXRUNTIME + TOOLS + BROKER
TEST = ["pytest>=8", "pytest-asyncio>=0.24", "hypothesis>=6.100"]

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
        "pamdi.engines": ["models/*"],
    },
    install_requires=[
        "msgspec>=0.18",
        "numpy>=1.20",
        "aiomqtt>=2.4,<3",
        "paho-mqtt>=2,<3",
        "uvloop>=0.19",
        "tomli>=2; python_version < '3.11'",
    ],
    extras_require={
        "onnxruntime": ONNXRUNTIME,
        "tools": TOOLS,
        "broker": BROKER,
        "demo": DEMO,
        "test": ONNXRUNTIME + TEST,
        "dev": DEMO + TEST + ["ruff", "mypy", "import-linter"],
        "train": ["torch", "scikit-learn", "onnxscript", "onnx"],
    },
    entry_points={"console_scripts": ["pamdi=pamdi.cli.main:main"]},
)
