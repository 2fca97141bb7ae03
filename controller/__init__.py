"""Knows the fleet, decides who holds what, publishes it by epoch, and watches it become true."""
