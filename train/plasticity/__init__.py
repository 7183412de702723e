"""How much a network can still learn: what of it is in use, and how its tasks pull at it.

`metrics` has the equations on plain tensors; `measures` applies them to a network on transitions,
which `experience` plays with an agent; `renewal` gives new weights to dormant neurons (ReDo) and
to heads; `plain` does all of it for plain networks, as critics are.

More than a dozen names stand on this face because actors and critics are measured and renewed each
in their way.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
