"""Simulates chip networks, plays with them, and counts and prices what they do.

Start with :mod:`mtspark.sim.backends.reference`, the specification, and :mod:`mtspark.sim.engine`,
its fast equal. :mod:`mtspark.sim.play` runs the agent loop, :mod:`mtspark.sim.counts` counts, and
:mod:`mtspark.sim.energy` prices the counts.
"""
