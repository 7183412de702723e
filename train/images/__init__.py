"""Training on image sets: one network, a task for each set.

Read `data` (loading), `trainer` (learning) and `run` (the folder of a run), in this order.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
