"""The fast simulator, equal to the reference on every spike and membrane.

Read :mod:`.layout` (the arrays), :mod:`.plan` (a network as these arrays), :mod:`.chip` (the
backend), then :mod:`.kernels` (the compiled loops).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
