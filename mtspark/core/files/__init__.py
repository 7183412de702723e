"""files.

More than a dozen names stand on this face because it is the one door to the disk: one writer, one
guarded reader for each format, and the limits of both.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
