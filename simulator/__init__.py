"""The same core under a pretend world: replays the paper, finds faults by seed, plans fleets nobody has."""
