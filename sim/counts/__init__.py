"""Spikes, synaptic operations and neuron updates of runs.

:mod:`.totals` adds up a run. :mod:`.activity` counts the same again by step, decision and episode,
:mod:`.encoders` for other ways to send a frame.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
