"""What a deployed network does: episodes of its games (`games`), or plain inputs (`inputs`).

`data` turns arrays, tensors and data loaders into what a chip is sent.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
