"""The MTSpark network and its parts.

Read `config` first (sizes and constants, without PyTorch), then `network`, which is composed of
`neurons`, `dendrites` and `paths`. `fusing` compiles, `refit` finds stored weights of acting
ones, `variants` names published networks, `limits` bounds the size of a file.

More than a dozen names stand on this face because the twin, the checkpoint and the export each
look into the layers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
