"""pamdi: priority-aware model-distributed inference on a fleet of devices.

This package is plumbing: every part (core, daemon, controller, ...) is a folder of its own at the top of the
repository and is linked in here, so that it imports as ``pamdi.<part>``.
"""

__version__ = "0.1.0"
