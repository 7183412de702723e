"""Chip networks in the formats of other tools, to the bit where the format can say it.

Each file stands alone: ``onnx_integer`` writes one chip step as an ONNX graph, ``netx`` the
``.net`` files of lava-dl, and ``nir_integer`` the integers as a NIR-ready float network.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
