"""Recorded play and recorded inputs.

:mod:`.study` plays a task with everything recorded; :mod:`.film` keeps some seconds of it,
:mod:`.pictures` encodes them, :mod:`.stage` draws the demo's pictures. :mod:`.reel` films a whole
game, and :mod:`.twin` draws what people look at meanwhile. :mod:`.inputs` reads inputs from files.

More than a dozen names stand on this face because a study is recorded once and then drawn as film,
still and raster.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
