"""What was measured: seconds per segment and device type, link rates, FP16 error.

Nothing has been measured yet; until then controller.toml states the seconds.
"""
