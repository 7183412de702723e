"""PilotNet on Loihi 2: our predictions beside Intel's measurement.

:mod:`.pilotnet` reads network and recording, :mod:`.mapping` maps it, :mod:`.compare` predicts.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
