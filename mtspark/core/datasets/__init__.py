"""Recorded play in the format of minari, one dataset a task: first `recorded`, then both ways.

`write` needs minari; `read` is our own guarded reader, as for every file of strangers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
