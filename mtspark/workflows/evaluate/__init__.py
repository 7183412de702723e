"""How well a network does: float network and chip side by side.

`rows` holds results; `bundle` plays the games and images of a deployed agent, `checkpoint` those
of an agent's float network alone, `images` scores image sets. `data` compares any network's
classes with labels, `labelled` loads such data; `stored` leaves the result and some inputs
(`kept`) in the bundle, where a report finds them. The face has the loaders, too, which reports
and the command line share.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
