"""How much a network can still learn: what of it is in use, and how its tasks pull at it.

`metrics` has the equations on plain tensors; `measures` applies them to a network on transitions,
which `experience` plays with an agent; `renewal` gives new weights to dormant neurons (ReDo) and
to heads.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
