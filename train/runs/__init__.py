"""What all kinds of runs share: checks at the start, the folder, and callbacks.

Read `callbacks` first: log, TensorBoard, checkpoints and progress are callbacks of a training loop.

More than a dozen names stand on this face because two kinds of training share the folder, the
checks before a start and the callbacks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
