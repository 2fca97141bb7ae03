"""Models, cut points, ONNX segments, the engine store, and the back ends that run an engine."""
