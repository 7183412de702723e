"""The ablation grid: small networks on images that differ in one part each.

`grid` trains its cells and summarises them; `plots` draws the figures.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
