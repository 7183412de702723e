"""float_network.

More than a dozen names stand on this face because one data structure, the network, has many parts
that every importer builds.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
