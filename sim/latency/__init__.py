"""How long a decision takes on a chip, modelled from its description.

Read `traffic` first: it counts the messages between the cores of a mapping. `model` turns them and
the work of the busiest core into the time of a step and of a decision; `serialise` writes both as
JSON.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
