"""The whole fleet on one machine."""
