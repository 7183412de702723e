"""Comparison of two backends on the same frames.

:mod:`.agreement` counts what is equal; :mod:`.divergence` describes the first difference;
:mod:`.places` puts the neurons of a pruned network back where they stood.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
