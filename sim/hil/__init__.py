"""hil.

More than a dozen names stand on this face because the host, the chip's process and the result each
have parts that a command chooses.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
