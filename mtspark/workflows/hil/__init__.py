"""Games with the chip in another process: curves of latency and faults, and a served chip.

Read `sweep` first: it plays what a `request` asks for, point by point, and goes on with what a file
already has. `modelled` takes the chip's times from its description, `result` is what comes back,
and `serving` offers a chip to other machines.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
