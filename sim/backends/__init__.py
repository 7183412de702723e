"""Backends that answer frames: each takes a chip network and gives values, activity and traces.

Read :mod:`.reference` first; ONNX Runtime, Lava and netx must equal it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
