"""Time: the reference, Lava, the agent loop, counts, energy, reports."""
