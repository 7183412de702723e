"""Networks that act and learn on the chip's integers (quantisation-aware training).

`integers` makes differentiable integers of weights; `twin` runs a network on them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
