"""Models, cut points, ONNX segments, the engine store, and the back ends that run an engine."""

import os

# onnxruntime reads it as it is imported. Without it, its newer versions keep a device's identifier and a database of
# events in ~/.cache/Microsoft, and warn where there is no home, as in a service. Who sets it keeps what was set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
