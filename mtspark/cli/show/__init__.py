"""Tables and lines of results in the terminal, one file a subject.

A function here takes a result and prints it; none of them computes what it shows.

More than a dozen names stand on this face because there is one function a table.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
