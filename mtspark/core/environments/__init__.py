"""environments.

More than a dozen names stand on this face because the protocol is stored, checked and played by
different packages.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
