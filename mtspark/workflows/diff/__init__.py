"""Search for the first spike or membrane in which two simulations of a network differ.

Read `comparison` first: it decides what is compared with what. `frames` makes the inputs that both
get, `sides` runs files of any kind, `files` compares two of them layer by layer, and `twin`
compares the network that learned quantised with the chip's reference.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
