"""Spikes, synaptic operations and neuron updates of runs.

:mod:`.totals` adds up a run. :mod:`.activity` counts the same again by step, decision and episode,
:mod:`.encoders` for other ways to send a frame.
"""
