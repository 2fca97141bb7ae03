"""The ``pamdi`` command: thin. Each file adds one command and calls the part that does it."""
