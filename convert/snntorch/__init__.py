"""Any snntorch module as a float network: the module is run, and what it does is recorded.

Read in the order of the work: trace.py (the whole of it), calling.py (how a module is called) and
recorder.py (what is recorded of a run), values.py and symbolic.py (a recorded tensor as a sum of
linear maps of signals), layers.py and neurons.py (torch's layers, snntorch's neurons), readout.py
(which result is the answer), verify.py (the network against the module's own run). source.py
builds a module from the user's file, weights.py loads what was trained.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
