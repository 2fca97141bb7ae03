"""The paper's experiments in the simulator: ``make paper``."""
