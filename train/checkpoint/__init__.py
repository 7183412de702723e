"""Agent files and other PyTorch files of training runs, also untrusted ones.

`agent` reads and writes agents; `archive` checks a file before anything in it is read; `single`
takes one task out of an agent, and `union` puts all of them side by side.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
